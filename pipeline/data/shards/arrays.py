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


def encode_npy(array: NDArray[Any]) -> bytes:
    """Return ``array`` as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode_array(members: Mapping[str, memoryview], prefix: str) -> NDArray[np.uint8]:
    """Return the array stored as ``<prefix>npy``, or as an image file under ``<prefix>png`` and the like.

    Raises:
        KeyError: there is neither.
        ValueError: damaged bytes.
    """
    if (content := members.get(f"{prefix}npy")) is not None:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if (content := members.get(f"{prefix}jpg")) is not None:
        return _decode_jpeg(content)
    for extension in ("png", "webp"):
        if (content := members.get(f"{prefix}{extension}")) is not None:
            with Image.open(io.BytesIO(content), formats=("PNG", "WEBP")) as image:
                return np.asarray(image)
    raise KeyError(f"no {prefix}npy, {prefix}png, {prefix}jpg or {prefix}webp among {', '.join(members)}")


def _decode_jpeg(content: memoryview) -> NDArray[np.uint8]:
    """Return the pixels that Pillow would, in about half the time; a damaged file is a ValueError."""
    *_, colorspace, _ = simplejpeg.decode_jpeg_header(content)
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "GRAY" if colorspace == "Gray" else "RGB")
    return pixels


def decode_npy_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the arrays that ``rows`` uint8 (B, L) are as ``.npy`` files, a view uint8 (B, ...).

    Raises:
        ValueError: one of them is no such file, or they differ in shape.
    """
    stream = io.BytesIO(rows[0].tobytes())
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not version 1.0 of the format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    header = stream.tell()
    if fortran_order or dtype != np.uint8 or math.prod(shape) != rows.shape[1] - header:
        raise ValueError(f"an array of {dtype} {shape} in {rows.shape[1] - header} bytes")
    if (rows[:, :header] != rows[0, :header]).any():
        raise ValueError("arrays of several shapes")
    return rows[:, header:].reshape(-1, *shape)
