"""The `evaluate` stage: a trained network measured on held-out images."""
