"""The figures that the paper prints of a row."""

from __future__ import annotations

from typing import Any

from pipeline.paper.rivals import Row

PRINTED = {
    "memory_gb": "ram_gb_batch64",
    "training": "train_images_per_second",
    "inference": "test_images_per_second",
}
"""The paper's column of each figure of `Cost` that it has."""


def accuracy(row: Row, metric: str) -> float | None:
    """Return the row's accuracy in percent, of the first table that has it."""
    return _first(row, metric)


def printed_cost(row: Row, name: str) -> float | None:
    """Return the paper's figure that stands beside `Cost`'s ``name``, of the first table that has it."""
    if name == "parameters":
        return float(row.parameters)
    return _first(row, PRINTED[name]) if name in PRINTED else None


def _first(row: Row, key: str) -> float | None:
    values: list[Any] = [one[key] for one in row.reported if one.get(key) is not None]
    return float(values[0]) if values else None
