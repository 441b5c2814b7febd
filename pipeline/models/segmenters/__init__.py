"""Families of networks that give logits per pixel."""
