"""Families that offer every network of a library, by the library's name for it."""
