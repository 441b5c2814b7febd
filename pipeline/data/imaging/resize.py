"""Decoding and resizing: raw image files to uint8 images of the prepared size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.imaging.decode import Pixels, Size, explain_corruption, open_image, orientation
from pipeline.data.imaging.pixels import upright_pixels
from pipeline.params import DatasetParams

FAST_OVERSIZE = 2
"""``fast`` decodes a JPEG at the smallest of libjpeg's scales that is at least this many times the target."""


Box = tuple[int, int, int, int]


_PIL_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class Resizer:
    """Turns images into ``channels`` channels at a size."""

    channels: Literal[1, 3]
    filter: str
    geometry: str

    @classmethod
    def of(cls, params: DatasetParams) -> Resizer:
        return cls(params.channels, params.filter, params.geometry)

    def decode(self, data: bytes, sizes: tuple[Size, ...]) -> tuple[Pixels, Size]:
        """Decode the image in ``data``: uint8 (H, W) or (H, W, 3) upright, and its full size (height, width).

        ``fast`` may decode a JPEG at a fraction of its size, never below twice the largest of ``sizes``.

        Raises:
            CorruptImageError: not an image, damaged, too many pixels, or pixels of unknown range.
        """
        with explain_corruption(""), open_image(data) as image:
            size = (image.height, image.width)
            if (jpeg := self._decode_jpeg(data, image, sizes)) is not None:
                return jpeg, size
            pixels = upright_pixels(image, self.channels, data)
            return pixels, (pixels.shape[0], pixels.shape[1])

    def convert(self, pixels: Pixels) -> Pixels:
        """Return decoded ``pixels`` uint8 (H, W) or (H, W, 3) in this many channels."""
        if (pixels.ndim == 2) == (self.channels == 1):
            return pixels
        return np.asarray(Image.fromarray(pixels).convert("L" if self.channels == 1 else "RGB"))

    def resize(self, pixels: Pixels, size: Size) -> Pixels:
        """Return ``pixels`` uint8 (H, W[, 3]) at ``size``: uint8 (height, width, channels), contiguous."""
        box = crop_box((pixels.shape[0], pixels.shape[1]), size, self.geometry)
        left, top, right, bottom = box
        smaller = bottom - top < size[0] or right - left < size[1]
        if (bottom - top, right - left) == size:
            resized = pixels[top:bottom, left:right]
        elif self.filter == "box" or (self.filter == "fast" and smaller):
            resized = box_resize(pixels[top:bottom, left:right], size)
        elif self.filter in ("area", "fast"):
            area = cv2.resize(pixels[top:bottom, left:right], size[::-1], interpolation=cv2.INTER_AREA)
            resized = np.asarray(area, np.uint8)
        else:
            image = Image.fromarray(pixels)
            resized = np.asarray(image.resize(size[::-1], _PIL_FILTERS[self.filter], box=box))
        return np.ascontiguousarray(resized.reshape(*size, self.channels))

    def _decode_jpeg(self, data: bytes, image: Image.Image, sizes: tuple[Size, ...]) -> Pixels | None:
        """Decode an ordinary JPEG with simplejpeg: Pillow's pixels, sooner. None for any other image."""
        mode = "RGB" if self.channels == 3 else "L"
        if image.format != "JPEG" or image.mode != mode or orientation(image) != 1:
            return None
        height = width = 0
        if self.filter == "fast":
            height, width = (FAST_OVERSIZE * max(size[axis] for size in sizes) for axis in (0, 1))
        try:
            pixels = simplejpeg.decode_jpeg(
                data, "RGB" if self.channels == 3 else "GRAY", min_height=height, min_width=width
            )
        except ValueError:  # stricter than Pillow: let that one decide
            return None
        return np.asarray(pixels[..., 0] if self.channels == 1 else pixels, np.uint8)


def box_resize(pixels: Pixels, size: Size) -> Pixels:
    """Average the pixels whose centres fall into each target pixel, rounded once, half up.

    The windows are those of Pillow's ``BOX``, which rounds after each axis and so may differ by 1. Where the
    image is smaller than ``size`` the nearest pixel is taken.

    Args:
        pixels: uint8 (H, W) or (H, W, C).
        size: height and width of the result.
    """
    height, width = size
    planes = pixels.reshape(*pixels.shape[:2], -1)
    planes = _nearest(_nearest(planes, height, 0), width, 1)
    rows, columns = _edges(planes.shape[0], height), _edges(planes.shape[1], width)
    lines = planes.reshape(len(planes), -1)
    sums = np.empty((height, lines.shape[1]), np.int32)
    for i, (start, stop) in enumerate(pairwise(rows.tolist())):
        cv2.reduce(lines[start:stop], 0, cv2.REDUCE_SUM, sums[i : i + 1], cv2.CV_32S)
    sums = np.add.reduceat(sums.reshape(height, planes.shape[1], -1), columns[:-1], axis=1)
    counts = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
    means: Pixels = (sums / counts + 0.5).astype(np.uint8)
    return means.reshape(*size, *pixels.shape[2:])


def _edges(have: int, want: int) -> NDArray[np.int64]:
    """Return where each of ``want`` windows over ``have`` >= ``want`` pixels starts, and the end: ``want + 1``."""
    return (2 * np.arange(want + 1) * have + want) // (2 * want)


def _nearest(planes: Pixels, want: int, axis: int) -> Pixels:
    """Enlarge ``planes`` along ``axis`` to ``want`` pixels by the nearest; none where it has as many."""
    have = planes.shape[axis]
    if have >= want:
        return planes
    return np.asarray(np.take(planes, (2 * np.arange(want) + 1) * have // (2 * want), axis=axis))


def centre(images: Pixels, size: Size) -> Pixels:
    """Return the middle of ``images`` uint8 (..., H, W, C), none smaller than ``size``: (..., height, width, C).

    Where as many pixels cannot be left out on both sides, one more is left out at the bottom or at the right.
    """
    top, left = ((have - want) // 2 for have, want in zip(images.shape[-3:-1], size, strict=True))
    return np.ascontiguousarray(images[..., top : top + size[0], left : left + size[1], :])


def crop_box(have: Size, want: Size, geometry: str) -> Box:
    """Return left, top, right, bottom in pixels of what is kept: all, or the largest centre of ``want``'s shape."""
    height, width = have
    if geometry == "squash":
        return 0, 0, width, height
    scale = min(height / want[0], width / want[1])
    kept_height, kept_width = (max(1, round(scale * length)) for length in want)
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return left, top, left + kept_width, top + kept_height
