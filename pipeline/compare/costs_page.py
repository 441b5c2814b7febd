"""The table of what the rows of the paper cost, ours beside the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.compare.costs import Cost
from pipeline.compare.paper_figures import printed_cost
from pipeline.core.markdown import table
from pipeline.paper.rivals import Row
from wavemix import PaperRow

WORDS = {"memory_gb": "memory", "training": "training", "inference": "inference"}
"""What the figures are called where their order is told."""


def as_markdown(rows: Sequence[Row], costs: Mapping[str, Cost], where: Mapping[str, Any]) -> str:
    """Return the table, the paper's figures beside ours, and whether its order holds."""
    shown = [row for row in rows if row.name in costs and costs[row.name].training]
    ours = [row for row in shown if isinstance(row, PaperRow)]
    lines = []
    for row in shown:
        cost = costs[row.name]
        order = "" if row in ours else _order(row, ours, costs)
        lines.append(
            (
                row.name,
                f"{cost.parameters:,}",
                f"{cost.gmacs:.3g}",
                f"{cost.memory_gb:.3g}",
                _cell(printed_cost(row, "memory_gb")),
                _spread(cost.training),
                _cell(printed_cost(row, "training")),
                _spread(cost.inference),
                _cell(printed_cost(row, "inference")),
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


def _order(row: Row, ours: Sequence[Row], costs: Mapping[str, Cost]) -> str:
    """Return for each figure how many rows of WaveMix-Lite on the same data stand to ``row`` as in the paper."""
    found = []
    for name, word in WORDS.items():
        theirs = printed_cost(row, name)
        same_data = [one for one in ours if (one.dataset, one.image_size) == (row.dataset, row.image_size)]
        pairs = [(printed_cost(one, name), costs[one.name].figure(name)) for one in same_data]
        comparable = [(printed, measured) for printed, measured in pairs if printed is not None]
        if theirs is None or not comparable:
            continue
        mine = costs[row.name].figure(name)
        held = sum((theirs < printed) == (mine < measured) for printed, measured in comparable)
        found.append(f"{word} {held} of {len(comparable)}")
    return ", ".join(found) or "the paper gives no figure"


def _spread(rates: Sequence[float]) -> str:
    if len(rates) < 2:
        return _cell(statistics.median(rates))
    low, middle, high = statistics.quantiles(rates, n=4, method="inclusive")
    return f"{_cell(middle)} ({_cell(low)} to {_cell(high)})"


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
