"""The `prepare` stage: raw files to shards."""
