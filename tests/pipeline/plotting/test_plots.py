"""Charts and grids: what they draw is what they were given, and drawing changes nothing else."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure
from PIL import Image

from pipeline.data.shards.targets import IGNORE
from pipeline.plotting import charts, fronts, grids, masks, style

RANDOM = np.random.default_rng(0)
PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]


def image(height: int, width: int, channels: int) -> masks.Image:
    return RANDOM.integers(0, 256, (height, width, channels)).astype(np.uint8)


def mask(height: int, width: int) -> masks.Image:
    drawn = RANDOM.integers(0, 3, (height, width)).astype(np.uint8)
    drawn[0, 0] = IGNORE
    return drawn


def names(count: int) -> list[str]:
    return [f"class {i} of a long name, Ünïcödé $x_1$ & <b>" for i in range(count)]


DRAWN: dict[str, Callable[[], Figure]] = {
    "confusion": lambda: charts.confusion_matrix(np.diag([3, 0, 5]), np.array([3, 0, 5]), names(3)),
    "confusion of 300": lambda: charts.confusion_matrix(
        np.eye(300, dtype=np.int64), np.ones(300, np.int64), names(300)
    ),
    "confusion of 1": lambda: charts.confusion_matrix(np.array([[7]]), np.array([7]), names(1)),
    "curves": lambda: charts.curves(
        {"Loss": {"train": [(1, 2.0), (2, 1.0)], "val": []}, "None": {"val": []}}
    ),
    "no curves": lambda: charts.curves({}),
    "bars": lambda: charts.class_bars([0.9, float("nan"), 0.0], names(3), [5, 0, 9], "IoU", 0.45),
    "bars of 300": lambda: charts.class_bars(list(RANDOM.random(300)), names(300), [1] * 300, "Recall", 0.5),
    "histogram": lambda: charts.histogram({"train": [3, 0, 900], "val": [1, 1, 1]}, names(3), "samples"),
    "histogram of 300": lambda: charts.histogram({"train": [5] * 300}, names(300), "samples"),
    "calibration": lambda: charts.reliability([0.2, 0.9], [0.1, 0.95], [10, 1000]),
    "tradeoff": lambda: charts.tradeoff({"paper": [(1e4, 80.0, "a")], "ours": [(1e4, 80.0, "b")]}, "top-1"),
    "guesses": lambda: grids.guesses(
        [grids.Guess(image(8, 8, 1), 0, 0.9, 1), grids.Guess(image(8, 8, 1), 1, 0.5)], names(2), "Title"
    ),
    "labelled": lambda: grids.labelled([image(9, 30, 3)], ["one"], "Title"),
    "scenes": lambda: grids.scenes(
        [grids.Scene(image(16, 32, 3), mask(16, 32), mask(16, 32), 0.5)], names(3), PALETTE, "Title"
    ),
    "scenes without truth": lambda: grids.scenes(
        [grids.Scene(image(16, 32, 1), mask(16, 32))], names(3), PALETTE, "Title"
    ),
    "masks": lambda: grids.masks([(image(16, 16, 3), mask(16, 16))] * 3, names(3), PALETTE),
}


@pytest.mark.parametrize("name", DRAWN)
def test_is_drawn_opaque_and_leaves_matplotlib_alone(name: str) -> None:
    before = dict(matplotlib.rcParams)
    content = style.render(DRAWN[name]())
    assert dict(matplotlib.rcParams) == before
    assert not Gcf.get_all_fig_managers()
    with Image.open(io.BytesIO(content)) as drawn:
        assert min(drawn.size) >= 100
        assert drawn.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        if name != "no curves":
            assert np.asarray(drawn.convert("L")).min() < 100  # something dark is on the white ground


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = (style.render(DRAWN["bars"](), kind) for kind in ("svg", "svg"))
    assert first == second


def test_masks_are_drawn_in_the_palette_and_ignored_pixels_in_none_of_it() -> None:
    drawn = masks.colour_mask(np.array([[0, 1], [2, IGNORE]], np.uint8), PALETTE)
    assert drawn.tolist() == [[[0, 0, 0], [255, 0, 0]], [[0, 0, 255], list(masks.IGNORED_COLOUR)]]


def test_an_overlay_mixes_colours_and_shows_the_image_where_nothing_counts() -> None:
    grey = np.full((1, 2, 1), 100, np.uint8)
    drawn = masks.overlay(grey, np.array([[1, IGNORE]], np.uint8), PALETTE, opacity=0.5)
    assert drawn.tolist() == [[[178, 50, 50], [100, 100, 100]]]


def test_default_palettes_have_no_colour_twice() -> None:
    colours = masks.default_palette(100)
    assert len(set(colours)) == 100
    assert masks.default_palette(0) == []


def test_the_end_of_a_cosine_does_not_press_the_learning_rate_into_a_line() -> None:
    rates = [(1.0, 1e-3), (2.0, 5e-4), (3.0, 5e-10)]
    (axes,) = charts.curves({"Learning rate": {"learning_rate": rates}}).axes
    bottom, top = axes.get_ylim()
    assert top > 1e-3
    assert 1e-8 < bottom < 1e-6
    (axes,) = charts.curves({"Learning rate": {"learning_rate": rates[:2]}}).axes
    assert axes.get_ylim()[0] > 1e-4


@pytest.mark.parametrize("name", [r"$\frac{$", "$x$", r"\$", "$", r"a\$b$"])
def test_a_dollar_sign_in_a_name_starts_no_formula(name: str) -> None:
    figure, ((axes,),) = style.new_figure(2, 2)
    text = axes.set_title(style.shorten(name))
    style.render(figure)
    shown, is_formula = text._preprocess_math(text.get_text())
    assert (shown, is_formula) == (name, False)


def test_no_name_on_a_front_covers_another() -> None:
    crowded = [fronts.Point(1000 + 10 * number, 90 + 0.1 * number, f"trial {number}") for number in range(20)]
    figure = fronts.front(
        [*crowded, fronts.Point(9000, 99, "far")], [fronts.Point(1100, 95, "8/10")], "c", "v"
    )
    texts = figure.axes[0].texts
    names = [text.get_text() for text in texts]
    assert {"8/10", "far", "trial 19"} < set(names)
    assert len(names) < 15
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(
    ("costs", "shown"),
    [
        ((4.78, 5.49), "5.1"),
        ((2.9e6, 1.43e7), "3,000,000"),
        ((305, 16578), "1,000"),
        ((0.0127, 0.117), "0.1"),
    ],
)
def test_the_numbers_of_a_logarithmic_axis_are_written_in_full(
    costs: tuple[float, float], shown: str
) -> None:
    figure = fronts.front(
        [fronts.Point(cost, 40 + i, f"{i}") for i, cost in enumerate(costs)], [], "cost", "top-1"
    )
    figure.draw_without_rendering()
    axis = figure.axes[0].xaxis
    labels = [text.get_text() for text in [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]]
    assert shown in labels
    assert not any("$" in label or "e" in label for label in labels)
