"""Our runs beside the paper's rows, and beside one another."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.page import escape, table
from pipeline.paper import FIGURES, Comparison, compare, figure, tables
from pipeline.runs import Run
from wavemix import paper_rows

MOST_RUNS = 30
"""Runs in the list; `mlflow ui` shows them all."""


def beside_paper(runs: Sequence[Run] | None) -> str:
    """Rows of the paper that runs of ours have the network and data of, as Markdown."""
    if runs is None:
        return "The tracking store did not answer, so there is nothing to compare with.\n"
    found = compare(paper_rows().values(), runs)
    if not found:
        return (
            "None of the runs in the store has the network and the data of a row of the paper. "
            "`uv run wavemix paper list` shows the rows, `uv run wavemix paper use ROW` writes one into "
            "params.yaml.\n"
        )
    header = ["tables", "row", "", "paper", "ours", "difference", "parameters", "what differs"]
    text = table(header, (_comparison(entry) for entry in found))
    notes = [f"- {escape(entry.row.name)}: {escape(note)}" for entry in found for note in entry.row.notes]
    return text + ("\n" + "\n".join(notes) + "\n" if notes else "")


def tradeoff_points(
    runs: Sequence[Run] | None, data: str, metric: str
) -> dict[str, list[tuple[float, float, str]]]:
    """Figure 1's points, (parameters, percent, name), the paper's and ours; nothing when there is only one."""
    ours = [
        (run.metrics["parameters"], 100 * value, run.name)
        for run in runs or ()
        if run.data == data and "parameters" in run.metrics and (value := run.held_out(metric)) is not None
    ]
    theirs = [
        (float(row.parameters), figure(row)[1], row.name.removeprefix(f"{row.dataset} "))
        for row in paper_rows().values()
        if row.dataset == data and figure(row)[0] == metric
    ]
    groups = {name: points for name, points in (("paper", theirs), ("ours", ours)) if points}
    return groups if len(ours) + len(theirs) > 1 else {}


def _comparison(entry: Comparison) -> list[str]:
    name, value = figure(entry.row)
    return [
        tables(entry.row),
        entry.row.name,
        FIGURES[name],
        f"{value:.2f}",
        f"{entry.ours:.2f}",
        f"{entry.difference:+.2f}",
        f"{entry.row.parameters:,}",
        "; ".join(entry.differs) or "nothing that the paper says",
    ]


def all_runs(runs: Sequence[Run] | None, data: str, metric: str, this: str | None) -> str:
    """The runs on ``data``, the newest first, as Markdown; ``this`` is the id of the one to mark."""
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
    header = ["run", "started (UTC)", "status", FIGURES[metric], "parameters", "epochs", "commit"]
    more = f"\n… and {len(shown) - MOST_RUNS} more.\n" if len(shown) > MOST_RUNS else ""
    return table(header, rows) + more
