"""Accuracy against what it costs: Figure 1 of the paper, for any cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pipeline.plotting.style import BLUE, GREY, ORANGE, new_figure, shorten, styled

MOST_NAMES = 14
"""Points on the front that are named; more would cover one another."""


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
) -> Figure:
    """Draw ``points``, their Pareto front as a line, and the paper's figures, ``printed``, as hollow marks.

    Args:
        cost: what the horizontal axis shows, logarithmic.
        more_is_better: of the cost, as for images a second.
        floor: the least value shown; points below it are counted in the title.
    """
    figure, ((axes,),) = new_figure(7.2, 4.6)
    best = pareto(points, more_is_better=more_is_better)
    others = [point for point in points if point not in best]
    for group, colour, label, size in ((others, GREY, "tried", 22), (best, BLUE, "on the front", 44)):
        if group:
            axes.errorbar(
                [point.cost for point in group],
                [point.value for point in group],
                yerr=[point.spread for point in group] if any(point.spread for point in group) else None,
                fmt="o",
                color=colour,
                markersize=size**0.5,
                label=label,
                zorder=3,
            )
    axes.step(
        [point.cost for point in best],
        [point.value for point in best],
        where="pre" if more_is_better else "post",
        color=BLUE,
        linewidth=1.2,
        zorder=2,
    )
    if printed:
        axes.scatter(
            [point.cost for point in printed],
            [point.value for point in printed],
            s=50,
            facecolors="none",
            edgecolors=ORANGE,
            marker="D",
            label="the paper",
            zorder=3,
        )
    for point in [*best[:MOST_NAMES], *printed]:
        axes.annotate(
            shorten(point.name, 26),
            (point.cost, point.value),
            xytext=(5, -9),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set(xscale="log", xlabel=cost, ylabel=f"{value}, %")
    title = f"{value} against {cost}"
    if floor is not None:
        below = sum(point.value < floor for point in points)
        top = max(point.value for point in [*points, *printed])
        axes.set_ylim(floor, top + 0.06 * (top - floor))
        title += f" ({below} below {floor:g} % not shown)" if below else ""
    axes.set_title(title)
    axes.margins(x=0.12)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def pareto(points: Sequence[Point], *, more_is_better: bool = False) -> list[Point]:
    """Return the points that no other beats in cost and value, by cost."""
    sign = -1 if more_is_better else 1
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (sign * one.cost, -one.value)):
        if not front or point.value > front[-1].value:
            front.append(point)
    return sorted(front, key=lambda one: one.cost)
