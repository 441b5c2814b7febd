"""The table of what the rows of the paper cost, ours beside the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.markdown import table
from pipeline.paper.rivals import Row
from wavemix import PaperRow

PRINTED = {
    "memory": "ram_gb_batch64",
    "training": "train_images_per_second",
    "inference": "test_images_per_second",
}
"""The paper's column of each of our figures."""


@dataclass
class RowCost:
    """What one row costs; rates have one entry per turn."""

    parameters: int
    gmacs: float
    memory_gb: float
    """Of training at batch 64: the peak on a GPU; on a CPU what is kept for the backward pass, counted."""
    training: list[float] = field(default_factory=list)
    """Images a second."""
    inference: list[float] = field(default_factory=list)

    def figure(self, name: str) -> float:
        """Return ``memory``, or the median of ``training`` or ``inference``."""
        return self.memory_gb if name == "memory" else statistics.median(getattr(self, name))


def as_markdown(rows: Sequence[Row], costs: Mapping[str, RowCost], where: Mapping[str, Any]) -> str:
    """Return the table, the paper's figures beside ours, and whether its order holds."""
    shown = [row for row in rows if row.name in costs and costs[row.name].training]
    ours = [row for row in shown if isinstance(row, PaperRow)]
    lines = []
    for row in shown:
        cost, printed = costs[row.name], _printed(row)
        order = "" if row in ours else _order(row, ours, costs)
        lines.append(
            (
                row.name,
                f"{cost.parameters:,}",
                f"{cost.gmacs:.3g}",
                f"{cost.memory_gb:.3g}",
                _cell(printed["memory"]),
                _spread(cost.training),
                _cell(printed["training"]),
                _spread(cost.inference),
                _cell(printed["inference"]),
                order,
            )
        )
    memory = "kept for backward, counted" if str(where["device"]).startswith("cpu") else "peak"
    header = [
        "row", "parameters", "GMAC", f"memory at batch 64, GB ({memory})", "paper",
        "training, images/s (quartiles)", "paper", "inference, images/s (quartiles)", "paper",
        "the paper's order against WaveMix-Lite holds",
    ]  # fmt: skip
    words = ", ".join(f"{key} {value}" for key, value in where.items())
    turns = min((len(costs[row.name].training) for row in shown), default=0)
    return (
        table(header, lines)
        + f"\n{words}; turns: {turns}. Times compare networks within this run, not with the paper's device. "
        "The order: of the pairs with a WaveMix-Lite row on the same data, how many stand as in the paper.\n"
    )


def _order(row: Row, ours: Sequence[Row], costs: Mapping[str, RowCost]) -> str:
    """Return for each figure how many rows of WaveMix-Lite on the same data stand to ``row`` as in the paper."""
    found = []
    for name in PRINTED:
        theirs = _printed(row)[name]
        same_data = [one for one in ours if (one.dataset, one.image_size) == (row.dataset, row.image_size)]
        pairs = [(_printed(one)[name], costs[one.name].figure(name)) for one in same_data]
        comparable = [(printed, measured) for printed, measured in pairs if printed is not None]
        if theirs is None or not comparable:
            continue
        mine = costs[row.name].figure(name)
        held = sum((theirs < printed) == (mine < measured) for printed, measured in comparable)
        found.append(f"{name} {held} of {len(comparable)}")
    return ", ".join(found) or "the paper gives no figure"


def _printed(row: Row) -> dict[str, float | None]:
    """Return the paper's figures, the first that a table has."""
    return {
        name: next((one[key] for one in row.reported if one.get(key) is not None), None)
        for name, key in PRINTED.items()
    }


def _spread(rates: Sequence[float]) -> str:
    if len(rates) < 2:
        return _cell(statistics.median(rates))
    low, middle, high = statistics.quantiles(rates, n=4, method="inclusive")
    return f"{_cell(middle)} ({_cell(low)} to {_cell(high)})"


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
