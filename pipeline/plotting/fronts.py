"""Accuracy against what it costs: Figure 1 of the paper, for any cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from pipeline.plotting.style import BLUE, GREY, ORANGE, log_axis, new_figure, shorten, styled

LONGEST_NAME = 40
"""Characters of a name that are shown."""
FEW = 16
"""Points that are all named, where there is room."""


@dataclass(frozen=True)
class Point:
    """One network."""

    cost: float
    value: float
    """Percent."""
    name: str
    spread: float = 0.0
    """Standard deviation of ``value`` over repeats."""


@styled
def front(
    points: Sequence[Point],
    printed: Sequence[Point],
    cost: str,
    value: str,
    *,
    more_is_better: bool = False,
    floor: float | None = None,
    others: str = "tried",
) -> Figure:
    """Draw ``points``, their Pareto front as a line, and the paper's figures, ``printed``, as hollow marks.

    Args:
        cost: what the horizontal axis shows, logarithmic.
        more_is_better: of the cost, as for images a second.
        floor: the least value shown; points below it are counted in the title.
        others: what the points that are not on the front are called. Few of them are named too.
    """
    figure, ((axes,),) = new_figure(7.2, 4.6)
    best = pareto(points, more_is_better=more_is_better)
    behind = [point for point in points if point not in best]
    _scatter(axes, behind, others, color=GREY, markersize=4.7)
    _scatter(axes, best, "on the front", color=BLUE, markersize=6.6)
    _scatter(axes, printed, "the paper", fmt="D", color=ORANGE, markerfacecolor="none", markersize=7)
    where = "pre" if more_is_better else "post"
    costs, values = [point.cost for point in best], [point.value for point in best]
    axes.step(costs, values, where=where, color=BLUE, linewidth=1.2, zorder=2)
    log_axis(axes)
    axes.set(xlabel=cost, ylabel=f"{value}, %")
    title = f"{value} against {cost}"
    if floor is not None:
        below = sum(point.value < floor for point in points)
        top = max(point.value for point in [*points, *printed])
        axes.set_ylim(floor, top + 0.06 * (top - floor))
        title += f"\n{below} below {floor:.1f} % not shown" if below else ""
    axes.set_title(title)
    axes.margins(x=0.12)
    figure.legend(loc="outside lower center", ncols=3)
    _name(axes, printed, [*(behind if len(points) <= FEW else []), *best])
    return figure


def _name(axes: Any, printed: Sequence[Point], ours: Sequence[Point]) -> None:
    """Name ``printed`` above their marks, then ``ours`` below, the last ones first, where no name covers another."""
    axes.figure.draw_without_rendering()  # only then is known where the axes lie
    taken: list[Bbox] = []
    above, below = {"xytext": (-5, 5), "ha": "right"}, {"xytext": (5, -9)}
    for point, place in [(point, above) for point in printed] + [(point, below) for point in reversed(ours)]:
        text = axes.annotate(
            shorten(point.name, LONGEST_NAME),
            (point.cost, point.value),
            textcoords="offset points",
            fontsize=7,
            annotation_clip=True,
            **place,
        )
        box = text.get_window_extent()
        if box.x0 < axes.bbox.x0:  # it would lie on the axis: to the other side of its mark
            text.set(ha="left", position=(5, text.xyann[1]))
            box = text.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _scatter(axes: Any, points: Sequence[Point], label: str, **style: Any) -> None:
    if points:
        spreads = [point.spread for point in points] if any(point.spread for point in points) else None
        costs, values = [point.cost for point in points], [point.value for point in points]
        axes.errorbar(costs, values, yerr=spreads, label=label, zorder=3, **{"fmt": "o", **style})


def pareto(points: Sequence[Point], *, more_is_better: bool = False) -> list[Point]:
    """Return the points that no other beats in cost and value, by cost."""
    sign = -1 if more_is_better else 1
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (sign * one.cost, -one.value)):
        if not front or point.value > front[-1].value:
            front.append(point)
    return sorted(front, key=lambda one: one.cost)
