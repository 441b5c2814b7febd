"""Encoded bytes to an upright image, and images and masks to the size asked for. All uint8."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.params import DatasetParams

MAX_PIXELS = 256_000_000
"""An image that says it has more is refused before it is decoded."""
FAST_OVERSIZE = 2
"""``fast`` decodes a JPEG at the smallest of libjpeg's scales that is at least this many times the target."""

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
Size = tuple[int, int]

_ORIENTATION = 0x0112  # the EXIF tag
_PIL_FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
_WIDE_MODES = {"I;16", "I;16B", "I;16L", "I", "F"}


class CorruptImageError(Exception):
    """Bytes that are no image, or not a whole one; the message says why."""


@dataclass(frozen=True, slots=True)
class Resizer:
    """How images become ``channels`` channels at a size."""

    channels: Literal[1, 3]
    filter: str
    geometry: str

    @classmethod
    def of(cls, params: DatasetParams) -> Resizer:
        return cls(params.channels, params.filter, params.geometry)

    def decode(self, data: bytes, sizes: tuple[Size, ...]) -> tuple[Pixels, Size]:
        """The image in ``data``, uint8 (H, W) or (H, W, 3), and its size (height, width) as stored.

        ``fast`` may decode a JPEG at a fraction of its size, never below twice the largest of ``sizes``.

        Raises:
            CorruptImageError: not an image, cut short, or too many pixels.
        """
        try:
            with Image.open(io.BytesIO(data)) as image:
                size = (image.height, image.width)
                if size[0] * size[1] > MAX_PIXELS:
                    raise CorruptImageError(f"{size[1]}x{size[0]} pixels, more than {MAX_PIXELS} are refused")
                if self.filter == "fast" and (pixels := self._decode_scaled(data, image, sizes)) is not None:
                    return pixels, size
                pixels = np.asarray(upright(image, self.channels))
                return pixels, (pixels.shape[0], pixels.shape[1])
        except UnidentifiedImageError:
            raise CorruptImageError("not an image") from None
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise CorruptImageError(" ".join(str(error).split()) or type(error).__name__) from None

    def convert(self, pixels: Pixels) -> Pixels:
        """Decoded ``pixels`` uint8 (H, W) or (H, W, 3) in this many channels."""
        return np.asarray(upright(Image.fromarray(pixels), self.channels))

    def resize(self, pixels: Pixels, size: Size) -> Pixels:
        """``pixels`` uint8 (H, W[, 3]) at ``size``: uint8 (height, width, channels), contiguous."""
        box = crop_box((pixels.shape[0], pixels.shape[1]), size, self.geometry)
        if self.filter in ("area", "fast"):
            left, top, right, bottom = box
            area = cv2.resize(pixels[top:bottom, left:right], size[::-1], interpolation=cv2.INTER_AREA)
            resized = np.asarray(area, np.uint8)
        else:
            image = Image.fromarray(pixels)
            resized = np.asarray(image.resize(size[::-1], _PIL_FILTERS[self.filter], box=box))
        return np.ascontiguousarray(resized.reshape(*size, self.channels))

    def _decode_scaled(self, data: bytes, image: Image.Image, sizes: tuple[Size, ...]) -> Pixels | None:
        """A JPEG decoded at a fraction of its size, or None when it is one for the ordinary way."""
        if image.format != "JPEG" or image.mode not in ("RGB", "L") or _is_turned(image):
            return None
        height, width = (FAST_OVERSIZE * max(size[axis] for size in sizes) for axis in (0, 1))
        colours = "RGB" if self.channels == 3 else "GRAY"
        try:
            pixels = simplejpeg.decode_jpeg(data, colours, min_height=height, min_width=width)
        except ValueError:  # stricter than Pillow: let that one decide
            return None
        return np.asarray(pixels[..., 0] if self.channels == 1 else pixels, np.uint8)


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


def decode_mask(data: bytes) -> Pixels:
    """The ids in a mask file (8-bit grey or palette indices): uint8 (H, W).

    Raises:
        CorruptImageError: not an image, cut short, or not one id per pixel.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ("L", "P", "1") or image.width * image.height > MAX_PIXELS:
                raise CorruptImageError(f"mask is a {image.mode} image, expected 8-bit ids (L or P)")
            return np.asarray(image.convert("L") if image.mode == "1" else image)
    except UnidentifiedImageError:
        raise CorruptImageError("mask is not an image") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise CorruptImageError(f"mask: {' '.join(str(error).split())}") from None


def resize_mask(mask: Pixels, size: Size, geometry: str) -> Pixels:
    """``mask`` uint8 (H, W) at ``size`` by the nearest pixel: uint8 (height, width)."""
    box = crop_box((mask.shape[0], mask.shape[1]), size, geometry)
    nearest = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST, box=box)
    return np.ascontiguousarray(nearest)


def crop_box(have: Size, want: Size, geometry: str) -> Box:
    """Left, top, right, bottom in pixels of what is kept: all, or the largest centre of ``want``'s shape."""
    height, width = have
    if geometry == "squash":
        return 0, 0, width, height
    scale = min(height / want[0], width / want[1])
    kept_height, kept_width = (max(1, round(scale * length)) for length in want)
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return left, top, left + kept_width, top + kept_height


def _is_turned(image: Image.Image) -> bool:
    return "exif" in image.info and image.getexif().get(_ORIENTATION, 1) != 1


def _narrow(image: Image.Image) -> Image.Image:
    """Wide grey values to 8 bits: 16-bit ones by their high byte, floats in 0..1 by scaling."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        return Image.fromarray(np.clip(values * 255, 0, 255).round().astype(np.uint8))
    return Image.fromarray(np.clip(values.astype(np.int64) >> 8, 0, 255).astype(np.uint8))
