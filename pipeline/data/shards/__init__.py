"""The on-disk contract of shards, both sides of it."""
