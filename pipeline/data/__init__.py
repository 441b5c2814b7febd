"""From raw files to batches."""
