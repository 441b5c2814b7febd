"""Grids of images: what is in the data, and what the network makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline.data.shards.targets import IGNORE
from pipeline.plotting.masks import IGNORED_COLOUR, Image, Palette, colour_mask, overlay
from pipeline.plotting.style import BLUE, ORANGE, new_figure, shorten, styled


@dataclass(frozen=True)
class Guess:
    """One image and what a classifier says of it; ``target`` is None when nobody knows."""

    image: Image
    """uint8 (H, W, C), C = 1 or 3."""
    predicted: int
    confidence: float
    target: int | None = None


@dataclass(frozen=True)
class Scene:
    """One image and its masks in train ids, uint8 (H, W); ``target`` is None when nobody knows."""

    image: Image
    predicted: Image
    target: Image | None = None
    iou: float = float("nan")


@dataclass(frozen=True)
class TaggedImage:
    """One image, the names of the classes predicted in it, and the true ones."""

    image: Image
    """uint8 (H, W, C), C = 1 or 3."""
    predicted: tuple[str, ...]
    target: tuple[str, ...]


@styled
def tagged(samples: Sequence[TaggedImage], title: str) -> Figure:
    """Draw images with their predicted classes: missed ones after a minus, wrong ones after a plus."""
    lines = [
        [
            shorten(name, 14) if name in sample.target else f"+ {shorten(name, 12)}"
            for name in sample.predicted
        ]
        + [f"− {shorten(name, 12)}" for name in sample.target if name not in sample.predicted]
        for sample in samples
    ]
    figure, axes = _image_grid(
        [sample.image for sample in samples], title, 0.2 * max(map(len, lines), default=1)
    )
    for cell, sample, words in zip(axes, samples, lines, strict=False):
        colour = BLUE if set(sample.predicted) == set(sample.target) else ORANGE
        cell.set_title(
            "\n".join(words) or "none", fontsize=7, color=colour, fontweight="normal", loc="center"
        )
    return figure


@styled
def guesses(samples: Sequence[Guess], class_names: Sequence[str], title: str) -> Figure:
    """Draw images with the predicted class; a blue frame and a tick when right, orange and a cross when wrong."""
    figure, axes = _image_grid([sample.image for sample in samples], title, 0.5)
    for cell, sample in zip(axes, samples, strict=False):
        right = sample.target in (None, sample.predicted)
        colour = BLUE if right else ORANGE
        mark = "" if sample.target is None else "✓ " if right else "✗ "
        text = f"{mark}{shorten(class_names[sample.predicted], 14)} ({100 * sample.confidence:.0f} %)"
        if not right and sample.target is not None:
            text += f"\ntrue: {shorten(class_names[sample.target], 14)}"
        cell.set_title(text, fontsize=8, color=colour, fontweight="normal", loc="center")
        for side in cell.spines.values():
            side.set(visible=True, edgecolor=colour, linewidth=2.5)
    return figure


@styled
def labelled(images: Sequence[Image], labels: Sequence[str], title: str) -> Figure:
    """Draw images, each with a label above."""
    figure, axes = _image_grid(images, title, 0.4)
    for cell, label in zip(axes, labels, strict=False):
        cell.set_title(shorten(label, 16), fontsize=8, fontweight="normal", loc="center")
    return figure


@styled
def scenes(samples: Sequence[Scene], class_names: Sequence[str], palette: Palette, title: str) -> Figure:
    """Draw one row per image: the image, the truth, the prediction, the prediction over the image (Figure 5)."""
    columns = ["image", "truth", "prediction", "overlay"]
    if all(sample.target is None for sample in samples):
        columns.remove("truth")
    height, width = samples[0].image.shape[:2]
    cell = min(3.2, 1.9 * max(1.0, width / height))
    present = _present(samples)
    legend_rows = -(-(len(present) + 1) // 6)
    figure, grid = new_figure(
        cell * len(columns),
        (cell * height / width + 0.12) * len(samples) + 0.7 + 0.22 * legend_rows,
        len(samples),
        len(columns),
    )
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    for row, sample in zip(grid, samples, strict=True):
        prediction = colour_mask(sample.predicted, palette)
        drawn = {
            "image": sample.image,
            "truth": None if sample.target is None else colour_mask(sample.target, palette),
            "prediction": prediction,
            "overlay": overlay(sample.image, sample.predicted, palette),
        }
        for axes, name in zip(row, columns, strict=True):
            show_image(axes, drawn[name])
            if sample is samples[0]:
                axes.set_title(name, fontsize=9, fontweight="normal", loc="center")
        if not np.isnan(sample.iou):
            row[-1].set_xlabel(f"mIoU of this image {100 * sample.iou:.1f}", fontsize=8)
    _legend(figure, present, class_names, palette)
    return figure


@styled
def masks(samples: Sequence[tuple[Image, Image]], class_names: Sequence[str], palette: Palette) -> Figure:
    """Draw pairs of image and mask as they lie in the shards, two pairs to a row."""
    pairs = [Scene(image, mask) for image, mask in samples]
    height, width = pairs[0].image.shape[:2]
    rows = -(-len(pairs) // 2)
    cell = min(3.2, 1.9 * max(1.0, width / height))
    figure, grid = new_figure(cell * 4, (cell * height / width + 0.12) * rows + 1.1, rows, 4)
    cells = grid.ravel()
    for axes in cells:
        axes.axis("off")
    for i, pair in enumerate(pairs):
        show_image(cells[2 * i], pair.image)
        show_image(cells[2 * i + 1], colour_mask(pair.predicted, palette))
    _legend(figure, _present(pairs), class_names, palette)
    return figure


def _image_grid(images: Sequence[Image], title: str, caption: float) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure with one axes per image, ``caption`` inches above each left for text."""
    height, width = images[0].shape[:2]
    columns = max(1, min(len(images), 8 if width <= height else 5))
    rows = max(1, -(-len(images) // columns))
    cell = 1.35 if columns > 5 or len(images) < 5 else 2.2
    figure, grid = new_figure(
        max(cell * columns, 4.5), (cell * height / width + caption) * rows + 0.4, rows, columns
    )
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    axes = grid.ravel()
    for cell_axes in axes[len(images) :]:
        cell_axes.set_visible(False)
    for cell_axes, image in zip(axes, images, strict=False):
        show_image(cell_axes, image)
    return figure, axes


def show_image(axes: Any, image: Image | None) -> None:
    """Draw ``image`` without ticks, pixels sharp when there are few of them."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if image is None:
        return
    sharp = "nearest" if max(image.shape[:2]) <= 96 else "antialiased"
    grey = image.ndim == 2 or image.shape[2] == 1
    axes.imshow(
        image.squeeze() if grey else image,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation=sharp,
    )


def _present(samples: Sequence[Scene]) -> list[int]:
    """Train ids in any mask of ``samples``."""
    drawn = [mask for sample in samples for mask in (sample.target, sample.predicted) if mask is not None]
    return sorted({int(value) for mask in drawn for value in np.unique(mask)})


def _legend(figure: Figure, present: Sequence[int], class_names: Sequence[str], palette: Palette) -> None:
    """Draw the colours of the classes that are ``present``, below the pictures."""
    patches = [
        Patch(facecolor=np.array(palette[i]) / 255, edgecolor="#888888", label=shorten(class_names[i]))
        for i in present
        if i < len(palette)
    ]
    if IGNORE in present:
        patches.append(
            Patch(facecolor=np.array(IGNORED_COLOUR) / 255, edgecolor="#888888", hatch="//", label="ignored")
        )
    figure.legend(handles=patches, loc="outside lower left", ncols=min(6, len(patches)), fontsize=8)
