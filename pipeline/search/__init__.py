"""The search for the smallest network, or the best one at its size: ``wavemix search``."""
