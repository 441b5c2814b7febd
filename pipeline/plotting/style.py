"""The style of all plots."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6b6b6b"


SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00", GREY)


DASHES = ("-", "--", "-.", ":", "-", "--", "-.")


STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


DOTS_PER_INCH = 120


Arguments = ParamSpec("Arguments")


def save(figure: Figure, path: Path) -> Path:
    """Write ``figure`` to ``path`` (its suffix says the format) and give the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render(figure, path.suffix.lstrip(".")))
    return path


def render(figure: Figure, kind: str = "png") -> bytes:
    """Return ``figure`` as a file of ``kind``; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with rc_context({**STYLE, "svg.hashsalt": "wavemix"}):
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Let ``draw`` draw in the project's style, and leave matplotlib's global one alone."""

    @wraps(draw)
    def draw_in_style(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_in_style


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure of ``width`` x ``height`` inches and its axes, an array (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


class _PlainNumbers(LogFormatter):
    """Writes the numbers of a logarithmic axis in full: 5.1 and 2,000,000, no powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        labelled = super().__call__(x, pos)  # empty where there is no room
        return (f"{x:,.0f}" if x >= 1000 else f"{x:.4g}") if labelled else ""


def log_axis(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with numbers that read well over decades and within one."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_PlainNumbers())
    axes.xaxis.set_minor_formatter(_PlainNumbers())


def shorten(name: str, length: int = 18) -> str:
    """Return ``name`` in at most ``length`` characters, as matplotlib shows it: a dollar sign starts no formula."""
    short = name if len(name) <= length else name[: length - 1] + "…"
    return short.replace("$", r"\$")
