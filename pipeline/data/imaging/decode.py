"""Encoded bytes to an upright image, uint8."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 256_000_000
"""An image that says it has more is refused before it is decoded."""


Pixels = NDArray[np.uint8]


Size = tuple[int, int]


_ORIENTATION = 0x0112  # the EXIF tag


_WIDE_MODES = {"I;16", "I;16B", "I;16L", "I", "F"}


class CorruptImageError(Exception):
    """Bytes that are no image, or not a whole one; the message says why."""


def upright(image: Image.Image, channels: int) -> Image.Image:
    """``image`` turned as its EXIF says, as ``L`` (1 channel) or ``RGB`` (3).

    16-bit grey is scaled, not clipped; transparent pixels lie on white; CMYK and palettes become RGB.
    """
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        image.load()
        return image
    if image.mode in _WIDE_MODES:
        image = _narrow(image)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    return image.convert(mode)


@contextmanager
def explain_corruption(what: str) -> Iterator[None]:
    """Whatever a decoder trips over in damaged bytes is a `CorruptImageError`.

    Decoders raise nearly every kind of exception there is; one bad file among a million must not end the run.
    """
    try:
        yield
    except (CorruptImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise CorruptImageError(f"{what}is not an image".strip()) from None
    except Exception as error:
        raise CorruptImageError(f"{what}{' '.join(str(error).split()) or type(error).__name__}") from None


def check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise CorruptImageError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS} are refused")


def _is_turned(image: Image.Image) -> bool:
    if "exif" not in image.info:
        return False
    try:
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return False


def _narrow(image: Image.Image) -> Image.Image:
    """Wide grey values to 8 bits: 16-bit ones by their high byte, floats in 0..1 by scaling."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        return Image.fromarray(np.clip(values * 255, 0, 255).round().astype(np.uint8))
    return Image.fromarray(np.clip(values.astype(np.int64) >> 8, 0, 255).astype(np.uint8))
