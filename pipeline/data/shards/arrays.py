"""Arrays as the bytes of a member of a shard."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.errors import one_line

LONGEST_HEADER = 1024
"""Bytes of the longest header of an ``.npy`` file that is read; numpy writes 128 for ours."""


def encode_npy(array: NDArray[Any]) -> bytes:
    """Return ``array`` as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode_array(members: Mapping[str, memoryview], prefix: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the array stored as ``<prefix>npy``, or as an image file under ``<prefix>png`` and the like.

    Args:
        size: the height and width that it must have, known before anything is decoded.

    Returns:
        uint8 (H, W) or (H, W, C).

    Raises:
        KeyError: there is neither.
        ValueError: damaged bytes, another size or another dtype.
    """
    if (content := members.get(f"{prefix}npy")) is not None:
        array: NDArray[np.uint8] = decode_npy_rows(np.frombuffer(content, np.uint8)[None])[0]
        if array.shape[:2] != size:
            raise ValueError(f"array of shape {array.shape}")
        return array.copy()  # a view would keep the whole shard
    if (content := members.get(f"{prefix}jpg")) is not None:
        return _decode_jpeg(content, size)
    for extension in ("png", "webp"):
        if (content := members.get(f"{prefix}{extension}")) is not None:
            return _decode_image(content, size)
    raise KeyError(f"no {prefix}npy, {prefix}png, {prefix}jpg or {prefix}webp among {', '.join(members)}")


def _decode_jpeg(content: memoryview, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels that Pillow would, in about half the time; a damaged file is a ValueError."""
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
    _check_size(height, width, size)
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "GRAY" if colorspace == "Gray" else "RGB")
    return pixels


def _decode_image(content: memoryview, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "WEBP")) as image:
            _check_size(image.height, image.width, size)
            return np.asarray(image)
    except Exception as error:  # decoders raise nearly every kind of exception on damaged bytes
        raise ValueError(one_line(error)) from None


def _check_size(height: int, width: int, size: tuple[int, int]) -> None:
    if (height, width) != size:
        raise ValueError(f"image of {height}x{width} pixels")


def decode_npy_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the arrays that ``rows`` uint8 (B, L) are as ``.npy`` files, a view uint8 (B, ...).

    Raises:
        ValueError: one of them is no such file, or they differ in shape.
    """
    stream = io.BytesIO(rows[0, :LONGEST_HEADER].tobytes())
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not version 1.0 of the format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    header = stream.tell()
    if fortran_order or dtype != np.uint8 or math.prod(shape) != rows.shape[1] - header:
        raise ValueError(f"an array of {dtype} {shape} in {rows.shape[1] - header} bytes")
    if (rows[:, :header] != rows[0, :header]).any():
        raise ValueError("arrays of several shapes")
    return rows[:, header:].reshape(-1, *shape)
