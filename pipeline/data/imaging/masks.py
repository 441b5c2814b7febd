"""Mask files to train ids, uint8 (H, W)."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.data.imaging.decode import CorruptImageError, Pixels, Size, check_pixels, explain_corruption
from pipeline.data.imaging.resize import crop_box
from pipeline.data.raw.listing import UNKNOWN, Labels


def decode_mask(data: bytes) -> Pixels:
    """The ids in a mask file (8-bit grey or palette indices): uint8 (H, W).

    Raises:
        CorruptImageError: not an image, cut short, or not one id per pixel.
    """
    with explain_corruption("mask "), Image.open(io.BytesIO(data)) as image:
        check_pixels(image)
        if image.mode not in ("L", "P", "1"):
            raise CorruptImageError(f"mask is a {image.mode} image, expected 8-bit ids (L or P)")
        return np.asarray(image.convert("L") if image.mode == "1" else image)


def resize_mask(mask: Pixels, size: Size, geometry: str) -> Pixels:
    """``mask`` uint8 (H, W) at ``size`` by the nearest pixel: uint8 (height, width)."""
    box = crop_box((mask.shape[0], mask.shape[1]), size, geometry)
    nearest = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST, box=box)
    return np.ascontiguousarray(nearest)


def to_train_ids(mask: Pixels, labels: Labels) -> Pixels:
    """``mask`` in raw ids to train ids, uint8 (H, W).

    Raises:
        CorruptImageError: an id that does not exist.
    """
    table = np.asarray(labels.train_ids)
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = present[table[present] == UNKNOWN]
    if unknown.size:
        allowed = [i for i, train_id in enumerate(labels.train_ids) if train_id != UNKNOWN]
        raise CorruptImageError(
            f"mask has id {unknown[0]}, which does not exist "
            f"({len(allowed)} ids do, {allowed[0]} to {allowed[-1]})"
        )
    return np.asarray(table.astype(np.uint8)[mask])
