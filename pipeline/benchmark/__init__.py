"""The `benchmark` stage: the cost of a network on this machine."""
