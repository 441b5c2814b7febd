"""The `fingerprint` stage: the raw files of a dataset, present and listed."""
