"""The `report` stage: one page per experiment."""
