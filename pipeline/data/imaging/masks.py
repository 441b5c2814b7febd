"""Mask files, of ids or of colours, to train ids, uint8 (H, W)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.imaging.decode import (
    CorruptImageError,
    Pixels,
    Size,
    explain_corruption,
    load,
    open_image,
    orientation,
    stored_as,
)
from pipeline.data.imaging.pixels import SPREAD, turned
from pipeline.data.imaging.resize import crop_box
from pipeline.data.raw.listing import UNKNOWN, Labels

LOSSLESS = ("PNG", "TIFF", "BMP", "PPM")
"""Formats that masks may have: they keep every id. GIF is none of them: its writers renumber the palette."""


_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")


_NAMED = 5  # unknown ids in a message


def read_mask(data: bytes, labels: Labels) -> Pixels:
    """Return a mask file in train ids: uint8 (H, W), turned as the file's EXIF says.

    Raises:
        CorruptImageError: not an image, damaged, of a lossy format, or with ids or colours that no class has.
    """
    if labels.colours:
        return _colours_to_train_ids(decode_colours(data), labels)
    return to_train_ids(decode_mask(data), labels)


@contextmanager
def _mask_file(data: bytes) -> Iterator[Image.Image]:
    """Yield a mask file, opened; refuse what may hold other pixels than were drawn."""
    with explain_corruption("mask "), open_image(data) as image:
        lossy = image.format not in LOSSLESS or image.info.get("compression") in _LOSSY_TIFF
        if lossy:
            raise CorruptImageError(f"mask is a {image.format} file, which may change ids; save it as PNG")
        if getattr(image, "n_frames", 1) > 1:
            raise CorruptImageError("mask has several frames, expected one")
        yield image


def decode_mask(data: bytes) -> Pixels:
    """Return the ids in a mask file, as stored: grey values of 1, 2, 4 or 8 bits, or palette indices.

    Returns:
        uint8 (H, W), turned as the file's EXIF says.

    Raises:
        CorruptImageError: not an image, damaged, of a lossy format, or not one id of at most 8 bits per pixel.
    """
    with _mask_file(data) as image:
        layout = stored_as(image)
        if layout not in ("1", "L", "P", *SPREAD, "P;1", "P;2", "P;4") or _is_scaled(image):
            raise CorruptImageError(
                f"mask is a {layout} image, expected 8-bit ids (L or P); of colours, options.colours gives the classes"
            )
        load(image, data)
        # As booleans, 1-bit masks hold their ids.
        ids = np.asarray(image).astype(np.uint8) // (1 if image.mode == "1" else SPREAD.get(layout, 1))
        return turned(ids, orientation(image))


def decode_colours(data: bytes) -> Pixels:
    """Return the colours in a mask file: of RGB, opaque RGBA or of its palette.

    Returns:
        uint8 (H, W, 3), turned as the file's EXIF says.

    Raises:
        CorruptImageError: not an image, damaged, of a lossy format, or not one opaque 8-bit colour per pixel.
    """
    with _mask_file(data) as image:
        layout = stored_as(image)
        if image.mode not in ("RGB", "RGBA", "P") or "16" in layout:
            raise CorruptImageError(f"mask is a {layout} image, expected 8-bit colours (RGB or P)")
        load(image, data)
        if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] != 255:
            raise CorruptImageError("mask is partly transparent, expected one colour per pixel")
        return turned(np.asarray(image.convert("RGB")), orientation(image))


def _colours_to_train_ids(mask: Pixels, labels: Labels) -> Pixels:
    """Turn ``mask`` uint8 (H, W, 3) in colours into train ids, uint8 (H, W).

    Raises:
        CorruptImageError: names the colours that no class has.
    """
    known = np.array([_packed(np.array(colour)) for colour, _ in labels.colours])
    order = np.argsort(known)
    known, train_ids = known[order], np.array([train_id for _, train_id in labels.colours], np.uint8)[order]
    values = _packed(mask)
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    strangers = np.unique(values[known[places] != values])
    if len(strangers):
        named = ", ".join(
            str([value >> 16, value >> 8 & 255, value & 255]) for value in strangers[:_NAMED].tolist()
        )
        more = ", ..." if len(strangers) > _NAMED else ""
        raise CorruptImageError(f"mask has colours that no class has: {named}{more} ({len(known)} are known)")
    return np.asarray(train_ids[places])


def _packed(colours: NDArray[Any]) -> NDArray[np.int32]:
    """Return colours (..., 3) as one number each."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _is_scaled(image: Image.Image) -> bool:
    """Tell whether Pillow scales the grey values of a PGM: to 255, from another greatest value."""
    return image.format == "PPM" and image.tile[0].codec_name != "raw"  # type: ignore[attr-defined]


def resize_mask(mask: Pixels, size: Size, geometry: str) -> Pixels:
    """Return ``mask`` uint8 (H, W) at ``size`` by the nearest pixel: uint8 (height, width)."""
    box = crop_box((mask.shape[0], mask.shape[1]), size, geometry)
    nearest = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST, box=box)
    return np.ascontiguousarray(nearest)


def to_train_ids(mask: Pixels, labels: Labels) -> Pixels:
    """Turn ``mask`` in raw ids into train ids, uint8 (H, W).

    Raises:
        CorruptImageError: names the ids that do not exist.
    """
    table = np.asarray(labels.train_ids)
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = present[table[present] == UNKNOWN].tolist()
    if unknown:
        allowed = [i for i, train_id in enumerate(labels.train_ids) if train_id != UNKNOWN]
        named = ", ".join(map(str, unknown[:_NAMED])) + (", ..." if len(unknown) > _NAMED else "")
        which = f"id {named}, which does" if len(unknown) == 1 else f"ids {named}, which do"
        raise CorruptImageError(
            f"mask has {which} not exist ({len(allowed)} ids do, {allowed[0]} to {allowed[-1]})"
        )
    return np.asarray(table.astype(np.uint8)[mask])
