"""The pixels of an opened image, whatever its mode: upright, uint8, grey or RGB, over white.

================================  ==================================================================================
in the file                       becomes
================================  ==================================================================================
1, 2, 4 or 8 bits                 the same grey or colours at 8 bits
16 bits, unsigned                 the high byte; refused when no pixel reaches `FULL_RANGE`: 8, 10, 12 or 14 bits in
                                  16 would be nearly black, and nothing in the file says that they are
float                             times 255, rounded; refused outside 0 to 1, or when not finite
32-bit or signed integers         refused: their range is unknown
alpha or a transparent colour     over white
palettes, CMYK                    RGB
================================  ==================================================================================
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.imaging.decode import CorruptImageError, Pixels, load, orientation, stored_as

FULL_RANGE = 1 << 14
"""A 16-bit image whose greatest value is below this uses fewer than 15 bits."""


STRIP = 1 << 22
"""Pixels that are converted at a time, which bounds the memory that conversion takes."""


SPREAD = {"1": 255, "L;2": 85, "L;4": 17}
"""By what Pillow multiplies grey values of 1, 2 and 4 bits."""


_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa")


def upright_pixels(image: Image.Image, channels: int, data: bytes) -> Pixels:
    """Return the pixels of ``image``, opened from ``data``: uint8 (H, W) for 1 channel, (H, W, 3) for 3.

    Raises:
        CorruptImageError: pixels whose range is unknown (see the table above), or cut short.
    """
    layout = stored_as(image)
    load(image, data)
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info and ";16" not in layout:
        pixels = np.asarray(image)
    else:
        _check_range(image, layout)
        pixels = _converted(image, mode, layout)
    return turned(pixels, orientation(image))


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return ``pixels`` (H, W[, C]) stored with this EXIF orientation as they should be seen, contiguous."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _check_range(image: Image.Image, layout: str) -> None:
    """Refuse pixels of which nothing says which value is white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        highest = int(np.asarray(image).max())
        if 0 < highest < FULL_RANGE:
            raise CorruptImageError(_unclear(f"up to {highest}"))
    elif image.mode == "I":
        raise CorruptImageError("32-bit or signed integer pixels of unknown range; save it in 8 or 16 bits")
    elif ";16" in layout:
        if image.info.get("transparency") is not None:
            raise CorruptImageError("16-bit colours of which one is transparent; save it in 8 bits")
        extrema = cast(tuple[tuple[int, int], ...], image.getextrema())
        bands = zip(image.getbands(), extrema, strict=True)
        highest = max(high for name, (_, high) in bands if name != "A")  # of the high bytes
        if highest < FULL_RANGE >> 8:
            raise CorruptImageError(_unclear(f"below {(highest + 1) << 8}"))


def _unclear(values: str) -> str:
    return (
        f"16-bit pixels {values}, fewer than 15 bits, so which value is white is unclear; save it in 8 bits"
    )


def _converted(image: Image.Image, mode: str, layout: str) -> Pixels:
    """Convert ``image`` to ``mode`` (L or RGB), strip by strip."""
    width, height = image.size
    pixels = np.empty((height, width) if mode == "L" else (height, width, 3), np.uint8)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_over_white(strip, layout).convert(mode))
    return pixels


def _over_white(image: Image.Image, layout: str) -> Image.Image:
    """Return ``image`` at 8 bits, its transparent pixels over white."""
    key = image.info.get("transparency")
    if image.mode in _ALPHA_MODES or (image.mode == "P" and key is not None):
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    wide = image.mode.startswith(("I", "F"))
    if not wide and key is None:
        return image
    values = np.asarray(image if wide or image.mode in ("L", "RGB") else image.convert("L"))
    narrow = _narrow(values) if wide else values.copy()
    if key is not None:
        # One value per channel, in the depth of the file.
        same = values == np.asarray(key) * SPREAD.get(layout, 1)
        narrow[same.all(axis=-1) if same.ndim == 3 else same] = 255
    return Image.fromarray(narrow)


def _narrow(values: NDArray[Any]) -> Pixels:
    """Return 16-bit grey ``values`` by their high byte, floats in 0 to 1 scaled: uint8 of the same shape."""
    if values.dtype.kind != "f":
        return (values >> 8).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # so written, it holds for NaN as well
        raise CorruptImageError(
            f"float pixels from {low:g} to {high:g}; read are 0 to 1: scale or save in 8 bits"
        )
    return (values * 255).round().astype(np.uint8)
