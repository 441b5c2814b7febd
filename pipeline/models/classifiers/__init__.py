"""Families of networks that give logits per image."""
