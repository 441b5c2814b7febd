"""The figures that networks are compared by, and their names."""

from __future__ import annotations

COSTS = {
    "parameters": "parameters",
    "memory_gb": "memory of training at batch 64, GB",
    "training": "training, images/s",
    "gmacs": "billion multiply-accumulates an image",
}
"""Figures of a `Cost` that Figure 1 is drawn against, and what readers call them."""
RATES = ("training", "inference")
"""Those of which more is better."""
SORTED_BY = {
    "accuracy": "accuracy",
    "parameters": "parameters",
    "macs": "gmacs",
    "memory": "memory_gb",
    "training": "training",
    "inference": "inference",
}
"""What users call the figures that a table can be sorted by."""
