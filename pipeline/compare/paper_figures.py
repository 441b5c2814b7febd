"""The figures that the paper prints of a row."""

from __future__ import annotations

from pipeline.paper.rivals import Row
from pipeline.paper.rows import printed

PRINTED = {
    "memory_gb": "ram_gb_batch64",
    "training": "train_images_per_second",
    "inference": "test_images_per_second",
}
"""The paper's column of each figure of `Cost` that it has."""


def printed_cost(row: Row, name: str) -> float | None:
    """Return the paper's figure that stands beside `Cost`'s ``name``, of the first table that has it."""
    if name == "parameters":
        return float(row.parameters)
    return printed(row, PRINTED[name]) if name in PRINTED else None
