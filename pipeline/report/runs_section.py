"""All runs on a dataset, beside one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.core.markdown import table
from pipeline.paper.rivals import Row, rival_rows
from pipeline.paper.rows import tradeoff
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking.store import Run
from wavemix import paper_rows

MOST_RUNS = 30
"""Runs in the list; `mlflow ui` shows them all."""


def tradeoff_points(
    runs: Sequence[Run] | None, data: str, metric: str
) -> dict[str, list[tuple[float, float, str]]]:
    """Return Figure 1's points, (parameters, percent, name), the paper's and ours; nothing when there is only one."""
    ours = [
        (run.metrics["parameters"], 100 * value, run.name)
        for run in runs or ()
        if run.data == data and "parameters" in run.metrics and (value := run.held_out(metric)) is not None
    ]
    printed: dict[str, Iterable[Row]] = {
        "paper, WaveMix-Lite": paper_rows().values(),
        "paper, others": rival_rows().values(),
    }
    groups = {name: tradeoff(rows, data, metric) for name, rows in printed.items()}
    groups["ours"] = ours
    found = {name: points for name, points in groups.items() if points}
    return found if sum(map(len, found.values())) > 1 else {}


def all_runs(runs: Sequence[Run] | None, data: str, metric: str, this: str | None) -> str:
    """Return the runs on ``data``, the newest first, as Markdown; ``this`` is the id of the one to mark."""
    if runs is None:
        return "The tracking store did not answer.\n"
    shown = [run for run in runs if run.data == data]
    rows = []
    for run in shown[:MOST_RUNS]:
        value = run.held_out(metric)
        rows.append(
            [
                f"{run.name}{' (this one)' if run.id == this else ''}",
                f"{run.started:%Y-%m-%d %H:%M}",
                run.status.lower(),
                "–" if value is None else f"{100 * value:.2f}",
                f"{run.metrics['parameters']:,.0f}" if "parameters" in run.metrics else "–",
                f"{run.metrics['epoch']:.0f}" if "epoch" in run.metrics else "–",
                run.tags.get("git.commit", "")[:8],
            ]
        )
    header = ["run", "started (UTC)", "status", METRIC_LABELS[metric], "parameters", "epochs", "commit"]
    more = f"\n… and {len(shown) - MOST_RUNS} more.\n" if len(shown) > MOST_RUNS else ""
    return table(header, rows) + more
