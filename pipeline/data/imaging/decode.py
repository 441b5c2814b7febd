"""Encoded bytes to an opened image: the one place where Pillow meets files that others wrote."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from pipeline.data.imaging.png import lacks_rows, png_damage

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
"""Pillow's names of the formats that are decoded, whatever a file is called. Pillow has others that start programs
(EPS runs Ghostscript) or whose decoders few people use."""


MAX_PIXELS = 1 << 26
"""Pixels of the largest image that is decoded: 67,108,864, such as 8192x8192. A larger one is refused before it is
decoded. So one decode takes at most 1.25 GiB (20 bytes per pixel, JPEG 2000); 0.8 GiB for the other formats."""


Pixels = NDArray[np.uint8]


Size = tuple[int, int]
"""Height and width in pixels."""


_ORIENTATION = 0x0112  # the EXIF tag


_LARGE = f"more than {MAX_PIXELS} pixels are refused"


# Pillow warns of images that it takes for bombs; `MAX_PIXELS` is below where it starts.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class CorruptImageError(Exception):
    """Bytes that are no image, or not a whole one, or pixels whose range is unknown; the message says why."""


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Open the image in ``data``, checked as far as that goes without decoding it.

    Raises:
        CorruptImageError: not in `FORMATS`, damaged, or of more than `MAX_PIXELS`.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise CorruptImageError(f"{image.width}x{image.height} pixels; {_LARGE}")
        if image.format == "PNG" and (damage := png_damage(data)):
            raise CorruptImageError(damage)
        yield image


@contextmanager
def explain_corruption(what: str) -> Iterator[None]:
    """Raise whatever a decoder raises on damaged bytes as a `CorruptImageError`.

    Decoders raise nearly every kind of exception there is; one bad file among a million must not end the run.
    """
    try:
        yield
    except (CorruptImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise CorruptImageError(f"{what}is not an image (decoded are {', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise CorruptImageError(f"{what}{_LARGE}") from None
    except Exception as error:
        raise CorruptImageError(f"{what}{' '.join(str(error).split()) or type(error).__name__}") from None


def load(image: Image.Image, data: bytes) -> None:
    """Decode the pixels of ``image``, opened from ``data``.

    Raises:
        CorruptImageError: a PNG whose pixels end early.
    """
    image.load()
    if image.format == "PNG":
        # The last row in the file is one of these two, as the file may be interlaced.
        last = np.asarray(image.crop((0, max(0, image.height - 2), image.width, image.height)))
        if not all(row.any() for row in last) and lacks_rows(data):
            raise CorruptImageError("cut short: the pixels of a PNG end before its last row")


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where the EXIF is damaged."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1


def stored_as(image: Image.Image) -> str:
    """Return the layout of the pixels in the file, in Pillow's raw modes: ``L;4``, ``RGB;16B`` and so on.

    Pillow's own mode where its decoder does not say. Call it before the image is loaded.
    """
    args = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else image.mode
    if isinstance(args, tuple):
        args = args[0] if args else image.mode
    return args if isinstance(args, str) else image.mode
