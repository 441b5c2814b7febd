"""Masks as colours, and images as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL.Image import Image as PillowImage
from PIL.Image import fromarray

from pipeline.data.shards.targets import IGNORE

Image = npt.NDArray[np.uint8]


Palette = Sequence[tuple[int, int, int]]


IGNORED_COLOUR = (236, 236, 236)
"""Light grey, which neither Cityscapes' colours nor a black background hold."""


def colour_mask(mask: Image, palette: Palette) -> Image:
    """Train ids uint8 (H, W) to RGB uint8 (H, W, 3); ignored pixels light grey."""
    table = np.full((256, 3), IGNORED_COLOUR, dtype=np.uint8)
    table[: len(palette)] = palette
    return table[mask]


def overlay(image: Image, mask: Image, palette: Palette, opacity: float = 0.55) -> Image:
    """Return ``image`` uint8 (H, W, C) with the colours of ``mask`` over it: uint8 (H, W, 3)."""
    colours = colour_mask(mask, palette)
    mixed = (1 - opacity) * np.broadcast_to(image, colours.shape) + opacity * colours
    return np.where((mask == IGNORE)[..., None], image, mixed.round()).astype(np.uint8)


def default_palette(count: int) -> list[tuple[int, int, int]]:
    """Return colours for ``count`` classes whose data set brings none, as far apart as golden-angle hues allow."""
    from matplotlib.colors import hsv_to_rgb

    hues = [(0.6 + i * 0.618034) % 1 for i in range(count)]
    rows = [(hue, (0.75, 0.5, 0.9)[i % 3], (0.85, 0.65, 0.5)[i // 3 % 3]) for i, hue in enumerate(hues)]
    colours = (255 * hsv_to_rgb(np.array(rows).reshape(-1, 3))).round().astype(int)
    return [(int(r), int(g), int(b)) for r, g, b in colours]


def encode_png(pixels: Image) -> bytes:
    """Return uint8 (H, W[, C]), C = 1 or 3, as a PNG file."""
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return pillow_png(fromarray(flat))


def pillow_png(image: PillowImage) -> bytes:
    """Return a Pillow image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
