"""Synthetic training steps: memory and time."""
