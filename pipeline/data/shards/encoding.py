"""Samples as the bytes that a shard holds, and back."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.shards.arrays import encode_npy
from pipeline.data.shards.layout import EXTENSIONS
from pipeline.data.shards.targets import Target, TargetKind

Pixels = NDArray[np.uint8]


def encode_image(image: Pixels, encoding: str, quality: int) -> bytes:
    """Return ``image`` uint8 (H, W, C) in the bytes that a shard holds."""
    if encoding == "raw":
        return encode_npy(image)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    buffer = io.BytesIO()
    if encoding == "png":
        picture.save(buffer, "PNG", compress_level=6)
    elif encoding == "jpeg":
        picture.save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= 95 else 2)
    else:
        picture.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def decode_image(data: bytes, encoding: str, channels: int, lossless: Pixels) -> Pixels:
    """Return what a reader will see of ``data``, uint8 (H, W, C): ``lossless`` itself for the exact encodings."""
    if encoding in ("raw", "png"):
        return lossless
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(lossless.shape)


def members(image: bytes, target: Target, kind: TargetKind, encoding: str) -> tuple[tuple[str, bytes], ...]:
    """Return extension and content of each member of a sample, in their order in the tar."""
    return (EXTENSIONS[encoding], image), kind.encode(target, encoding)
