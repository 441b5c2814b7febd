"""Benchmarks anyone can run; none is a test."""
