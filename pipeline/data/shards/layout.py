"""The shards on disk: plain WebDataset tars that stock ``webdataset`` reads without this project.

A sample's members share a numeric key and lie side by side, image first:

=======================  =======================================================================
``{key:019d}.npy``       image, uint8 (H, W, C), for ``encoding: raw``; else ``.png .jpg .webp``
``{key:019d}.cls``       class index as ASCII digits, for classification
``{key:019d}.mask.npy``  train ids, uint8 (H, W), 255 = ignore, for segmentation (raw)
``{key:019d}.mask.png``  the same for the other encodings: masks are always lossless
=======================  =======================================================================

Modification time and owner are 0, so equal samples give equal bytes. In a raw shard every sample takes the
same number of bytes, starting at 0: a reader may memory-map it and index it by arithmetic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Filter = Literal["box", "area", "lanczos", "bilinear", "fast"]
"""How images were resized."""
Geometry = Literal["squash", "center_crop"]
"""How images of another shape were brought to the size."""
Encoding = Literal["raw", "png", "jpeg", "webp"]
"""How images lie in the shards."""


def shards_folder(data: str, size: tuple[int, int]) -> Path:
    """Return the folder of the shards of dataset ``data`` at ``size`` (height, width)."""
    height, width = size
    return Path("data/shards") / data / f"{height}x{width}"


TAR_BLOCK = 512
"""Bytes of a tar header, and what members are padded to (POSIX ustar)."""


EXTENSIONS = {"raw": "npy", "png": "png", "jpeg": "jpg", "webp": "webp"}


def shard_name(split: str, index: int) -> str:
    """Return the file name of shard ``index`` of ``split``."""
    return f"{split}-{index:06d}.tar"


def size_name(size: tuple[int, int]) -> str:
    """Return the name of the folder of the shards of ``size`` (height, width)."""
    return f"{size[0]}x{size[1]}"


def padded(length: int) -> int:
    """Return the bytes that a member of ``length`` bytes takes in a tar, without its header."""
    return -(-length // TAR_BLOCK) * TAR_BLOCK
