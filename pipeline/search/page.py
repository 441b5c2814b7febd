"""What a search found, as a page: the front, what mattered, and every trial."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.core.atomic import write_atomically
from pipeline.core.markdown import table
from pipeline.paper.rivals import all_rows
from pipeline.paper.rows import tradeoff
from pipeline.plotting import charts, fronts, style
from pipeline.plotting.fronts import Point
from pipeline.report.html import to_html
from pipeline.search.objectives import HIGHER_IS_BETTER, LABELS, percent
from pipeline.search.space import shown
from pipeline.search.study import Tried
from pipeline.search.worker import Search, tracker_of
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking.parent import end_parent

PAGE, TRIALS = "search.html", "trials.csv"
SHOWN = ("parameters", "memory")
"""The costs that a front is always drawn against."""


def write_page(search: Search, out: Path) -> Path:
    """Write the page, its pictures and all trials (CSV) into ``out`` and log them to the study's run; return the page.

    Trials that needed no training are left out of the pictures, and counted.
    """
    tried = search.study.tried()
    costs = list(dict.fromkeys([*SHOWN, *(one for one in search.study.objectives if one != "accuracy")]))
    for cost in costs:
        if points := list(_points(tried, cost)):
            style.save(_front(search, points, cost), out / f"{cost}.png")
    if importances := search.study.importances():
        style.save(charts.shares(importances, "What the accuracy depended on"), out / "importances.png")
    write_atomically(out / TRIALS, _as_csv(tried, search.metric))
    text = as_markdown(search, tried, costs, bool(importances))
    write_atomically(out / "search.md", text)
    write_atomically(out / PAGE, to_html(text, f"Search on {search.params.data}", out))
    if search.study.run_id is not None:
        with search.study.alone():
            end_parent(tracker_of(search), search.study.run_id, [out], "search")
    return out / PAGE


def _front(search: Search, points: Sequence[Point], cost: str) -> Figure:
    printed = tradeoff(all_rows().values(), search.params.data, search.metric) if cost == "parameters" else []
    most = max(point.cost for point in points)
    near = [Point(*row) for row in printed if row[0] <= 4 * most]
    values = sorted(point.value for point in points)
    floor = values[len(values) // 4] - 2 if len(values) >= 8 else None
    label = METRIC_LABELS[search.metric]
    return fronts.front(
        points, near, LABELS[cost], label, more_is_better=cost in HIGHER_IS_BETTER, floor=floor
    )


def _points(tried: Sequence[Tried], cost: str) -> dict[Point, Tried]:
    """Return the trials that were trained to their end, as points."""
    return {
        Point(figure, 100 * one.best, f"trial {one.number}"): one
        for one in tried
        if one.was_trained
        and one.state == "complete"
        and one.best is not None
        and (figure := one.figure(cost)) is not None
    }


def on_front(tried: Sequence[Tried], cost: str) -> list[Tried]:
    """Return the trained trials that no other beats in accuracy and ``cost``, by cost."""
    points = _points(tried, cost)
    return [points[point] for point in fronts.pareto(list(points), more_is_better=cost in HIGHER_IS_BETTER)]


def as_markdown(search: Search, tried: Sequence[Tried], costs: Sequence[str], importances: bool) -> str:
    """Return the page as Markdown."""
    trained = [one for one in tried if one.was_trained]
    counts = {
        state: sum(one.state == state for one in trained)
        for state in ("complete", "pruned", "fail", "running")
    }
    same = sum(one.same_as is not None for one in tried)
    skipped = len(tried) - len(trained) - same
    hours = sum(one.seconds for one in tried) / 3600
    parts = [
        f"# Search on {search.params.data}",
        f"{len(trained)} trainings ({', '.join(f'{count} {state}' for state, count in counts.items() if count)}) in "
        f"{hours:.2f} hours and {sum(len(one.curve) for one in trained)} epochs; {same} draws had been trained before. "
        f"Study `{search.study.name}`, seed {search.settings.seed}. One training each, judged by "
        f"{search.manifest.split('val').samples:,} samples of val: small differences may be chance.",
    ]
    if search.target is not None:
        unneeded = f"{skipped} draws were not trained: they are not smaller than one that had reached it."
        parts += ["## The target", f"{evidence(search, tried)} {unneeded}"]
    for cost in costs:
        if best := on_front(tried, cost):
            parts += [
                f"## {METRIC_LABELS[search.metric]} against {LABELS[cost]}",
                f"![front]({cost}.png)",
                _table(search, best),
            ]
    parts.append("`wavemix search --use NUMBER` writes a trial's values into params.yaml.")
    if importances:
        parts += [
            "## What mattered",
            "How much each key decided whether a trial is among the best (PED-ANOVA, shares of 1).",
            "![importances](importances.png)",
        ]
    parts += ["## All trials", _table(search, tried)]
    return "\n\n".join(parts) + "\n"


def evidence(search: Search, tried: Sequence[Tried]) -> str:
    """Return what reached the target with least, and how far all that is smaller stayed below it."""
    target = search.target
    assert target is not None
    name, wanted = target.minimise, f"{target.metric} {100 * target.value:g} %"
    trained = [one for one in tried if one.was_trained and one.best is not None and one.cost is not None]
    reached = [one for one in trained if target.is_reached_by(one)]
    if not reached:
        best = max(trained, key=lambda one: one.best or 0, default=None)
        found = (
            "no training ended"
            if best is None
            else f"the best is trial {best.number} with {percent(best.best)}"
        )
        return f"No trial reached {wanted}; {found}."
    least = min(reached, key=lambda one: one.figure(name) or 0)
    smaller = [one for one in trained if (one.figure(name) or 0) < (least.figure(name) or 0)]
    near = max(smaller, key=lambda one: one.best or 0, default=None)
    said = (
        "nothing smaller was tried"
        if near is None
        else f"of {len(smaller)} smaller ones that were trained the best is trial {near.number} with "
        f"{percent(near.best)} at {near.figure(name):,.0f}"
    )
    return (
        f"{wanted} is reached with {least.figure(name):,.0f} {LABELS[name]} (trial {least.number}, "
        f"{percent(least.best)}); {said}."
    )


def _table(search: Search, tried: Sequence[Tried]) -> str:
    keys = list(search.settings.space)
    rows = [
        [
            one.number,
            one.state if one.same_as is None else f"as {one.same_as}",
            percent(one.best),
            *(
                ["–"] * 3
                if one.cost is None
                else [f"{one.cost.parameters:,}", f"{one.cost.macs:,}", f"{one.cost.memory:,}"]
            ),
            "–" if one.rate is None else f"{one.rate:,.0f}",
            len(one.curve),
            *(shown(one.drawn.get(key)) for key in keys),
            one.note,
        ]
        for one in tried
    ]
    header = [
        "trial",
        "state",
        METRIC_LABELS[search.metric],
        "parameters",
        "MACs",
        "kept, bytes",
        "images/s",
        "epochs",
    ]
    return table([*header, *keys, "note"], rows)


def _as_csv(tried: Sequence[Tried], metric: str) -> str:
    text = io.StringIO()
    keys = sorted({key for one in tried for key in one.drawn})
    costs = ["parameters", "macs", "memory"]
    writer = csv.writer(text)
    writer.writerow(
        ["trial", "state", metric, *costs, "images_per_second", "epochs", "seconds", "same_as", *keys, "note"]
    )
    for one in tried:
        figures = [one.figure(cost) for cost in costs]
        drawn = [one.drawn.get(key) for key in keys]
        ended = [one.rate, len(one.curve), round(one.seconds, 1), one.same_as]
        writer.writerow([one.number, one.state, one.best, *figures, *ended, *drawn, one.note])
    return text.getvalue()
