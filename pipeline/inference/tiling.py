"""Masks of images larger than a network takes at once: tile by tile, blended where tiles overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

OVERLAP = 0.25
"""Part of a tile's side that it shares with the next at least."""


def tiled_mask(
    logits_of: Callable[[Tensor], Tensor], image: Pixels, tile: Size, classes: int, batch: int
) -> Pixels:
    """Return the class of each pixel of ``image``, uint8 (H, W); memory grows with its width, not with its height.

    A pixel has the mean of the probabilities that its tiles give it, those counting more whose middle is near.

    Args:
        logits_of: uint8 (B, h, w, C) of the tile's size on the CPU to float (B, outputs, h', w').
        image: uint8 (H, W, C); where it is smaller than ``tile``, its edges are repeated.
        tile: height and width.
        classes: outputs that count, the first ones.
        batch: tiles at a time.
    """
    height, width = image.shape[:2]
    beyond = [(0, max(0, side - length)) for side, length in zip(tile, (height, width), strict=True)]
    padded = np.pad(image, [*beyond, (0, 0)], mode="edge") if any(map(any, beyond)) else image
    rows, columns = (starts(length, side) for length, side in zip(padded.shape[:2], tile, strict=True))
    weight = _pyramid(tile)
    mask = np.empty(padded.shape[:2], np.uint8)
    band = torch.zeros(classes, tile[0], padded.shape[1])
    for row, following in zip(rows, [*rows[1:], padded.shape[0]], strict=True):
        for column, probabilities in _row(logits_of, padded, row, columns, tile, classes, batch):
            band[:, :, column : column + tile[1]] += weight * probabilities
        done = following - row
        mask[row:following] = band[:, :done].argmax(0).to(torch.uint8).numpy()
        band = torch.cat([band[:, done:], torch.zeros(classes, done, padded.shape[1])], dim=1)
    return mask[:height, :width]


def starts(length: int, side: int) -> list[int]:
    """Return where tiles of ``side`` begin that cover ``length`` >= ``side``, evenly, each `OVERLAP` into the next."""
    stride = max(1, math.floor(side * (1 - OVERLAP)))
    count = -(-(length - side) // stride) + 1
    return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]


def _row(
    logits_of: Callable[[Tensor], Tensor],
    image: Pixels,
    row: int,
    columns: list[int],
    tile: Size,
    classes: int,
    batch: int,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the column of each tile of a row and its probabilities, float32 (classes, h, w)."""
    for first in range(0, len(columns), batch):
        part = columns[first : first + batch]
        tiles = np.stack([image[row : row + tile[0], column : column + tile[1]] for column in part])
        logits = logits_of(torch.from_numpy(tiles))[:, :classes].float()
        if logits.shape[-2:] != tile:
            logits = functional.interpolate(logits, tile, mode="bilinear")
        yield from zip(part, logits.softmax(1).cpu(), strict=True)


def _pyramid(tile: Size) -> Tensor:
    """Return weights that fall from the middle of a tile to its edges, float32 (h, w), above 0."""
    sides = [torch.minimum(torch.arange(side) + 1, side - torch.arange(side)).float() / side for side in tile]
    return sides[0][:, None] * sides[1]
