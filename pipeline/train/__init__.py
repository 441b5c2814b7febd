"""The `train` stage: shards to a trained network."""
