"""Arrays as the bytes of a member of a shard."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
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
    for extension in ("png", "jpg", "webp"):
        if (content := members.get(f"{prefix}{extension}")) is not None:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                return np.asarray(image)
    raise KeyError(f"no {prefix}npy, {prefix}png, {prefix}jpg or {prefix}webp among {', '.join(members)}")
