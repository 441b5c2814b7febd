"""A comparison as a page: the table, Figure 1 of the paper for each cost, the curves, and what differs from it."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.compare.comparison import Comparison
from pipeline.compare.costs import Cost
from pipeline.compare.entrants import Entrant
from pipeline.compare.figures import COSTS, RATES, SORTED_BY
from pipeline.compare.paper_figures import printed_cost
from pipeline.core.atomic import write_atomically
from pipeline.core.markdown import escape, table
from pipeline.paper.rows import printed
from pipeline.plotting import charts, fronts, style
from pipeline.plotting.fronts import Point
from pipeline.report.html import to_html
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking.parent import end_parent

PAGE, TEXT, TABLE = "compare.html", "compare.md", "compare.csv"


class Line:
    """All that is known of one network of a comparison."""

    def __init__(self, entrant: Entrant, cost: Cost, comparison: Comparison) -> None:
        self.entrant, self.cost, self.results = entrant, cost, comparison.results(entrant)
        self.best = [100 * max(result.curve) for result in self.results]
        self.last = [100 * result.curve[-1] for result in self.results]

    @property
    def spread(self) -> float:
        return statistics.stdev(self.best) if len(self.best) > 1 else 0.0

    def figure(self, name: str) -> float | None:
        """Return a figure to sort by or to draw; None where it has none yet."""
        if name == "accuracy":
            return statistics.mean(self.best) if self.best else None
        return self.cost.figure(name)


def write_page(comparison: Comparison, out: Path, sort: str = "accuracy") -> Path:
    """Write the page, its pictures and the table (CSV) into ``out``; log them to the comparison's run.

    Args:
        sort: one of `SORTED_BY`; the best comes first.
    """
    where, costs = comparison.measured()
    lines = [Line(one, costs[one.key], comparison) for one in comparison.entrants if one.key in costs]
    key = SORTED_BY[sort]
    lines.sort(key=lambda line: _order(line.figure(key), higher_first=key in ("accuracy", *RATES)))
    pictures = _draw(comparison, lines, out)
    write_atomically(out / TABLE, _as_csv(comparison, lines))
    text = as_markdown(comparison, lines, pictures, where)
    write_atomically(out / TEXT, text)
    write_atomically(out / PAGE, to_html(text, f"Comparison on {comparison.params.data}", out))
    _log(comparison, [out / name for name in (PAGE, TEXT, TABLE, *pictures)])
    return out / PAGE


def _order(figure: float | None, *, higher_first: bool) -> tuple[bool, float]:
    return figure is None, -(figure or 0.0) if higher_first else figure or 0.0


def _draw(comparison: Comparison, lines: Sequence[Line], out: Path) -> list[str]:
    """Draw what there is to draw; return the names of the files in ``out``."""
    label = METRIC_LABELS[comparison.metric]
    drawn = []
    trained = [line for line in lines if line.results]
    for name, words in COSTS.items() if trained else ():
        points = [
            Point(line.cost.figure(name), line.figure("accuracy") or 0.0, line.entrant.name, line.spread)
            for line in trained
        ]
        marks = [
            Point(cost, value, line.entrant.name)
            for line in lines
            if line.entrant.row is not None
            and (cost := printed_cost(line.entrant.row, name)) is not None
            and (value := printed(line.entrant.row, comparison.metric)) is not None
        ]
        figure = fronts.front(
            points, marks, words, label, more_is_better=name in RATES, others="beside the front"
        )
        style.save(figure, out / f"{name}.png")
        drawn.append(f"{name}.png")
    curves = {
        line.entrant.name: [
            (result.seconds / 60 * (epoch + 1) / len(result.curve), 100 * value)
            for epoch, value in enumerate(result.curve)
        ]
        for line in trained
        for result in line.results[:1]
    }
    if curves:
        style.save(charts.curves({f"{label} on val, %": curves}, "minutes"), out / "curves.png")
        drawn.append("curves.png")
    return drawn


def as_markdown(
    comparison: Comparison, lines: Sequence[Line], pictures: Sequence[str], where: Mapping[str, Any]
) -> str:
    """Return the page as Markdown; ``where`` says how the costs were measured."""
    params, label = comparison.params, METRIC_LABELS[comparison.metric]
    wanted = len(comparison.entrants) * len(comparison.seeds)
    ended = sum(len(line.results) for line in lines)
    missing = "" if ended == wanted else f" {wanted - ended} of {wanted} trainings are missing."
    length = (
        f"each for {comparison.minutes:g} minutes by its measured speed, validation in it"
        if comparison.minutes
        else "each for the same epochs"
    )
    parts = [
        f"# Comparison on {params.data}",
        f"{len(comparison.entrants)} networks, {length}; {_recipe(comparison)}. Judged by "
        f"{comparison.manifest.split('val').samples:,} samples of val, on which the best epoch was chosen too."
        f"{missing}",
        _table(comparison, lines),
    ]
    words = ", ".join(f"{key} {value}" for key, value in where.items())
    parts.append(
        f"Costs: {words}; rates are medians of turns. They compare networks within this run, not with the paper's "
        "device. Memory is the peak on a GPU; on a CPU what a step keeps for the backward pass, counted."
    )
    if pictures:
        parts += [
            "## Figure 1",
            "Hollow marks are the paper's figures, after its own training, on its device.",
        ]
        parts += [f"![{name}]({name})" for name in pictures if name != "curves.png"]
        parts += ["## Curves", "Of the first seed.", "![curves](curves.png)"]
    parts += ["## What differs from the paper", *_differences(comparison, lines, label)]
    return "\n\n".join(parts) + "\n"


def _recipe(comparison: Comparison) -> str:
    train = comparison.params.train
    phases = " then ".join(f"{phase.optimizer} {phase.schedule} at {phase.lr:g}" for phase in train.phases)
    seeds = ", ".join(map(str, comparison.seeds))
    return f"{phases}, batch {train.batch_size}, seed {seeds}"


def _table(comparison: Comparison, lines: Sequence[Line]) -> str:
    label = METRIC_LABELS[comparison.metric]
    rows = []
    for line in lines:
        theirs = None if line.entrant.row is None else printed(line.entrant.row, comparison.metric)
        mean = line.figure("accuracy")
        rows.append(
            [
                line.entrant.name,
                "–" if mean is None else f"{mean:.2f}" + (f" ± {line.spread:.2f}" if line.spread else ""),
                "–" if mean is None else f"{statistics.mean(line.last):.2f}",
                "–" if theirs is None else f"{theirs:.2f}",
                len(line.results[0].curve) if line.results else "–",
                f"{statistics.mean(one.seconds for one in line.results) / 60:.1f}" if line.results else "–",
                f"{line.cost.parameters:,}",
                f"{line.cost.gmacs:.3g}",
                f"{line.cost.memory_gb:.3g}",
                f"{line.cost.figure('training'):,.0f}",
                f"{line.cost.figure('inference'):,.0f}",
            ]
        )
    header = [
        "network", f"{label}, %, best epoch", "last epoch", "the paper", "validations", "minutes",
        "parameters", "GMAC", "memory at batch 64, GB", "training, images/s", "inference, images/s",
    ]  # fmt: skip
    return table(header, rows).strip()


def _differences(comparison: Comparison, lines: Sequence[Line], label: str) -> list[str]:
    """Return paragraphs on what sets these figures apart from the paper's."""
    count = len(comparison.seeds)
    of_runs = f"the mean of {count}" if count > 1 else "one run"
    said = [
        f"The paper trains with AdamW, then SGD, for at most 150 epochs; here: {_recipe(comparison)}. Its figures "
        f"are the best of three runs; here {of_runs}."
    ]
    notes = [
        f"- {escape(line.entrant.name)}: {escape(text)}"
        for line in lines
        if line.entrant.row is not None
        for text in [
            *(f"{label} cited from {one['cited']}" for one in line.entrant.row.reported if "cited" in one),
            *line.entrant.row.notes,
        ]
    ]
    return said + (["\n".join(notes)] if notes else [])


def _as_csv(comparison: Comparison, lines: Sequence[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["network", "seed", comparison.metric, "last", "epochs", "seconds", *COSTS, "inference", "mlflow_run"]
    )
    for line in lines:
        costs = [line.cost.figure(name) for name in (*COSTS, "inference")]
        for one in line.results:
            ended = [max(one.curve), one.curve[-1], len(one.curve), round(one.seconds, 1)]
            writer.writerow([line.entrant.name, one.seed, *ended, *costs, one.run_id])
    return text.getvalue()


def _log(comparison: Comparison, files: Sequence[Path]) -> None:
    if comparison.run_id is None:
        return
    with comparison.alone():
        end_parent(comparison.tracker(), comparison.run_id, files, "compare")
