"""Every chart and picture grid of an experiment, as matplotlib figures that no global state knows of.

Colours are Okabe and Ito's, which stay apart for the colour-blind, or a perceptual scale. The ground is white
and opaque, so that a picture reads alike on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.plotting.style import BLUE, DASHES, GREY, ORANGE, SERIES, log_axis, new_figure, shorten, styled

MANY = 24
"""More classes than this get no cell numbers, and bars only for the best and the worst."""


LOG_RANGE = 1e4
"""Most that the ends of a logarithmic axis differ by."""


Image = npt.NDArray[np.uint8]


Curve = Sequence[tuple[float, float]]


@styled
def confusion_matrix(
    confusion: npt.NDArray[np.int64], totals: npt.NDArray[np.int64], class_names: Sequence[str]
) -> Figure:
    """Draw the share of each true class (row) that was taken for each class (column), in percent.

    Args:
        confusion: counts (classes, classes), row = truth.
        totals: counts (classes,) in the truth.
    """
    count = len(class_names)
    totals = totals[:, None]
    shares = 100 * confusion / np.maximum(totals, 1)
    side = float(np.clip(0.42 * count + 2.2, 4.5, 11))
    figure, ((axes,),) = new_figure(side + 0.9, side)
    axes.grid(False)
    # A square root, so that a few percent of confusion are seen beside a full diagonal.
    scale = PowerNorm(0.5, vmin=0, vmax=100)
    axes.set_facecolor("#eeeeee")
    picture = axes.imshow(np.where(totals > 0, shares, np.nan), cmap="Blues", norm=scale)
    bar = figure.colorbar(picture, ax=axes, shrink=0.75)
    bar.set_label("share of the true class, %")
    bar.outline.set_visible(False)
    shown = np.unique(np.linspace(0, count - 1, min(count, 40)).round().astype(int))
    labels = [shorten(class_names[i]) for i in shown]
    upright = max(map(len, labels)) > 2
    axes.set_xticks(shown, labels, rotation=90 if upright else 0)
    axes.set_yticks(shown, labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Confusion matrix")
    if count <= MANY:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{share:.0f}" if share >= 0.95 else "·",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 30 else "black",
            )
    return figure


@styled
def curves(panels: Mapping[str, Mapping[str, Curve]], x_label: str = "epoch") -> Figure:
    """Draw one panel per entry, each with named lines of (x, y) points; rates go on a logarithmic scale."""
    shown = {title: lines for title, lines in panels.items() if any(lines.values())}
    columns = min(3, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure, grid = new_figure(4.3 * columns, 3.1 * rows, rows, columns)
    grid = grid.ravel()
    for axes, (title, lines) in zip(grid, shown.items(), strict=False):
        for i, (name, points) in enumerate(lines.items()):
            x, y = zip(*points, strict=True) if points else ((), ())
            marker = "o" if len(points) == 1 else None
            axes.plot(x, y, DASHES[i % 7], color=SERIES[i % 7], label=name, marker=marker, linewidth=1.8)
        axes.set_title(title)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if "rate" in title.lower():
            axes.set_yscale("log")
            # The last step of a cosine is nearly 0, and would press all others into a line.
            lowest, highest = axes.get_ylim()
            axes.set_ylim(bottom=max(lowest, highest / LOG_RANGE))
        elif any(word in title.lower() for word in ("memory", "per second")):
            axes.dataLim.update_from_data_y([0], ignore=False)  # else a hair's breadth looks like a cliff
            axes.autoscale_view()
            axes.set_ylim(bottom=0)
        if len(lines) > 1:
            axes.legend()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    return figure


@styled
def class_bars(
    values: Sequence[float], class_names: Sequence[str], counts: Sequence[int], title: str, mean: float
) -> Figure:
    """Draw one bar per class, the best first, with its mean as a line; of many classes the best and the worst.

    Args:
        values: one per class, 0 to 1; NaN = absent, left out.
        counts: samples or pixels of each class in the truth.
    """
    order = [i for i in np.argsort(-np.asarray(values), kind="stable") if not np.isnan(values[i])]
    absent = len(values) - len(order)
    note = f" ({absent} absent left out)" if absent else ""
    if len(order) > 2 * MANY:
        note = f" (the {MANY} best and the {MANY} worst of {len(order)})"
        order = [*order[:MANY], *order[-MANY:]]
    figure, ((axes,),) = new_figure(7.5, max(2.2, 0.26 * len(order) + 1.2))
    axes.grid(axis="y", visible=False)
    rows = np.arange(len(order))
    chosen = np.array([values[i] for i in order])
    axes.barh(rows, chosen, color=BLUE, height=0.72)
    for row, i in enumerate(order):
        text = f"{100 * values[i]:.1f}  ({counts[i]:,})"
        inside = values[i] > 0.75
        axes.text(
            values[i] + (-0.01 if inside else 0.01),
            row,
            text,
            va="center",
            ha="right" if inside else "left",
            fontsize=8,
            color="white" if inside else "black",
            bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    axes.axvline(
        mean, color=ORANGE, linestyle="--", linewidth=1.8, zorder=0.5, label=f"mean {100 * mean:.1f}"
    )
    axes.set_yticks(rows, [shorten(class_names[i], 24) for i in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(title + note)
    figure.legend(loc="outside lower right")
    return figure


@styled
def histogram(counts: Mapping[str, Sequence[int]], class_names: Sequence[str], what: str) -> Figure:
    """Return ``counts`` per class for each split side by side; of many classes a curve, the largest class first."""
    count = len(class_names)
    figure, ((axes,),) = new_figure(float(np.clip(0.5 * count + 2, 6, 11)), 3.6)
    axes.grid(axis="x", visible=False)
    order = (
        np.argsort(-np.asarray(next(iter(counts.values()))), kind="stable") if count > MANY else range(count)
    )
    width = 0.8 / max(len(counts), 1)
    for i, (split, values) in enumerate(counts.items()):
        heights = [values[j] for j in order]
        if count > MANY:
            axes.plot(range(count), heights, DASHES[i % 7], color=SERIES[i % 7], label=split)
        else:
            x = np.arange(count) + (i - (len(counts) - 1) / 2) * width
            axes.bar(x, heights, width, color=SERIES[i % 7], label=split)
    if count > MANY:
        axes.set_xlabel("classes, the largest in the first split first")
    else:
        labels = [shorten(name) for name in class_names]
        axes.set_xticks(range(count), labels, rotation=40 if max(map(len, labels)) > 3 else 0)
    if max((max(values) for values in counts.values()), default=0) > 50 * _smallest(counts):
        axes.set_yscale("log")
    axes.set_ylabel(what)
    axes.set_title(f"{what.capitalize()} per class")
    figure.legend(loc="outside upper right", ncols=len(counts))
    return figure


@styled
def reliability(confidence: Sequence[float], accuracy: Sequence[float], samples: Sequence[int]) -> Figure:
    """Return how often predictions of like confidence are right; on the diagonal, confidence can be believed."""
    figure, ((axes,),) = new_figure(4.8, 4.6)
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
    sizes = 15 + 300 * np.sqrt(np.asarray(samples) / max(sum(samples), 1))
    label = "predictions (area: how many)"
    axes.scatter(confidence, accuracy, s=sizes, color=BLUE, alpha=0.85, label=label, clip_on=False, zorder=3)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share that is right")
    axes.set_title("Calibration")
    figure.legend(loc="outside lower center", ncols=2, markerscale=0.5)
    return figure


@styled
def tradeoff(groups: Mapping[str, Sequence[tuple[float, float, str]]], what: str) -> Figure:
    """Draw Figure 1: accuracy in percent against parameters, points (parameters, value, name) in named groups."""
    figure, ((axes,),) = new_figure(6.4, 4.2)
    for i, (group, points) in enumerate(groups.items()):
        x, y, names = zip(*points, strict=True)
        axes.scatter(x, y, s=46, color=SERIES[i], marker="os^D"[i % 4], label=group, zorder=3)
        for left, top, name in points if len(names) <= MANY else ():
            axes.annotate(
                shorten(name, 22),
                (left, top),
                xytext=(5, -10 if i else 4),
                textcoords="offset points",
                fontsize=7,
            )
    log_axis(axes)
    axes.set_xlabel("parameters")
    axes.set_ylabel(f"{what}, %")
    axes.set_title(f"{what} against parameters")
    axes.margins(x=0.15, y=0.12)
    figure.legend(loc="outside lower center", ncols=len(groups))
    return figure


@styled
def shares(values: Mapping[str, float], title: str) -> Figure:
    """Return ``values``, shares of 1 by name, as bars, the largest first."""
    order = sorted(values, key=lambda name: -values[name])
    figure, ((axes,),) = new_figure(6.4, max(1.8, 0.32 * len(order) + 1.0))
    axes.grid(axis="y", visible=False)
    axes.barh(range(len(order)), [values[name] for name in order], color=BLUE, height=0.7)
    axes.set_yticks(range(len(order)), [shorten(name, 30) for name in order])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(title)
    return figure


def _smallest(counts: Mapping[str, Sequence[int]]) -> int:
    """Return the smallest count that is not zero."""
    return min((value for values in counts.values() for value in values if value > 0), default=1)
