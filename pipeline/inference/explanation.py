"""What a network sees in an image: its maps after each block (Figure 3), and what it looks at (Figure 4).

The paper's Figure 3 has a trained ResNet beside: any other trained network can stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.data.shards.targets import TARGETS
from pipeline.inference.predictor import Opened, Predictor
from pipeline.models.features import feature_maps
from pipeline.models.inputs import normalise
from pipeline.plotting.grids import show_image
from pipeline.plotting.masks import Image
from pipeline.plotting.style import new_figure, shorten, styled

Map = npt.NDArray[np.float32]


WINDOWS = 16
"""Occluding windows along the longer side of an image."""


BATCH = 64


@torch.inference_mode()
def occlusion(
    probability: Callable[[Tensor], Tensor], image: Tensor, window: int, fill: Tensor, batch: int = BATCH
) -> Map:
    """Return how likely the class still is when a square of the image is covered, for each place of the square.

    Args:
        probability: uint8 images (B, H, W, C) to probabilities (B,).
        image: uint8 (H, W, C).
        window: side of the square in pixels; it moves by half of it.
        fill: uint8 (C,), what covers it.
        batch: images at a time.

    Returns:
        (rows, columns), in [0, 1]: low where the network looks.
    """
    height, width = image.shape[:2]
    step = max(1, window // 2)
    tops = range(0, max(1, height - window + step), step)
    lefts = range(0, max(1, width - window + step), step)
    places = [(top, left) for top in tops for left in lefts]
    values = []
    for start in range(0, len(places), batch):
        part = places[start : start + batch]
        covered = image.repeat(len(part), 1, 1, 1)
        for one, (top, left) in zip(covered, part, strict=True):
            one[top : top + window, left : left + window] = fill
        values.append(probability(covered).float().cpu())
    return torch.cat(values).view(len(tops), len(lefts)).numpy()


def maps_of(predictor: Predictor, opened: Opened) -> dict[str, Map]:
    """Return the output of each inspected module for an image that ``predictor`` opened, averaged over channels."""
    trained, network = predictor.trained, predictor.network
    pixels = torch.tensor(opened.resized).to(predictor.device)
    images = normalise(pixels[None], trained.mean, trained.std)
    maps = feature_maps(network, predictor.model.inspected(network), images)
    return {name: values[0].mean(0).cpu().numpy() for name, values in maps.items()}


def explain(predictor: Predictor, data: bytes, beside: Predictor | None = None) -> dict[str, Figure]:
    """Return the figures for one image file, by name; occlusion is for classification only.

    The maps of the network ``beside`` stand below the first one's.

    Raises:
        CorruptImageError: not an image, or not a whole one.
    """
    trained = predictor.trained
    opened = predictor.open(data)
    pixels = torch.tensor(opened.resized).to(predictor.device)
    maps = {network_name(predictor): maps_of(predictor, opened)}
    if beside is not None:
        name = network_name(beside)
        maps[f"{name}, the other" if name in maps else name] = maps_of(beside, beside.open(data))
    drawn = {"blocks": draw_maps(opened.resized, maps)}
    if TARGETS[trained.task].spatial:
        return drawn  # no class of the whole image
    (prediction,) = predictor.predict([opened])
    name, value = prediction.classes[0]
    index = trained.class_names.index(name)

    def probability(images: Tensor) -> Tensor:
        logits: Tensor = predictor.network(normalise(images, trained.mean, trained.std))
        found = predictor.task.probability(logits, index, trained)
        assert found is not None
        return found

    fill = (torch.tensor(trained.mean) * 255).round().to(torch.uint8).to(predictor.device)
    window = max(2, -(-2 * max(trained.size) // WINDOWS))
    places = occlusion(probability, pixels, window, fill)
    drawn["occlusion"] = draw_occlusion(opened.resized, places, name, value)
    return drawn


def network_name(predictor: Predictor) -> str:
    """Return the network's description and its data."""
    return f"{predictor.model.description}, {predictor.trained.data}"


@styled
def draw_maps(image: Image, networks: Mapping[str, Mapping[str, Map]]) -> Figure:
    """Return the image and, after each block of each network, the mean over its channels."""
    columns = min(6, max(map(len, networks.values())) + 1)
    needed = {name: -(-(len(maps) + 1) // columns) for name, maps in networks.items()}
    rows = sum(needed.values())
    figure, grid = new_figure(
        2.1 * columns, 2.1 * rows * image.shape[0] / image.shape[1] + 0.4 * rows, rows, columns
    )
    for axes in grid.ravel():
        axes.axis("off")
    first = 0
    for name, maps in networks.items():
        cells = grid[first : first + needed[name]].ravel()
        first += needed[name]
        show_image(cells[0], image)
        cells[0].set_title(name, fontsize=9, fontweight="normal")
        for axes, (module, values) in zip(cells[1:], maps.items(), strict=False):
            axes.imshow(values, cmap="gray")
            axes.set_title(f"after {module}", fontsize=9, fontweight="normal")
    return figure


@styled
def draw_occlusion(image: Image, places: Map, name: str, value: float) -> Figure:
    """Return the image, and how likely the class is with each place of it covered: dark is where it looks."""
    figure, ((left, right),) = new_figure(7.2, 3.2 * image.shape[0] / image.shape[1] + 0.5, 1, 2)
    show_image(left, image)
    left.set_title(f"{shorten(name)} ({100 * value:.0f} %)", fontsize=9, fontweight="normal")
    right.axis("off")
    picture = right.imshow(
        places,
        cmap="cividis",
        vmin=0,
        vmax=max(value, float(places.max())),
        extent=(0, image.shape[1], image.shape[0], 0),
    )
    right.set_title("probability with this place covered", fontsize=9, fontweight="normal")
    figure.colorbar(picture, ax=right, shrink=0.85)
    return figure
