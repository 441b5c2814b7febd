"""The shards on disk: plain WebDataset tars that stock ``webdataset`` reads without this project.

A sample's members share a numeric key and lie side by side, image first:

=======================  =======================================================================
``{key:019d}.npy``       image, uint8 (H, W, C), for ``encoding: raw``; else ``.png .jpg .webp``
``{key:019d}.cls``       class index as ASCII digits, for classification
``{key:019d}.mask.npy``  train ids, uint8 (H, W), 255 = ignore, for segmentation (raw)
``{key:019d}.mask.png``  the same for the other encodings: masks are always lossless
=======================  =======================================================================

Modification time and owner are 0, so equal samples give equal bytes. In a raw shard every sample takes the
same number of bytes (`sample_stride`), starting at 0: a reader may memory-map it and index it by arithmetic.
"""

from __future__ import annotations

from pathlib import Path


def shards_folder(data: str, size: tuple[int, int]) -> Path:
    """Where the shards of dataset ``data`` at ``size`` (height, width) lie."""
    height, width = size
    return Path("data/shards") / data / f"{height}x{width}"


TAR_BLOCK = 512  # bytes


NPY_HEADER = 128  # bytes, numpy's header for every small array


EXTENSIONS = {"raw": "npy", "png": "png", "jpeg": "jpg", "webp": "webp"}


def shard_name(split: str, index: int) -> str:
    return f"{split}-{index:06d}.tar"


def size_name(size: tuple[int, int]) -> str:
    """Folder of the shards of ``size`` (height, width)."""
    return f"{size[0]}x{size[1]}"


def sample_stride(size: tuple[int, int], channels: int, spatial: bool) -> int:
    """Bytes that each sample takes in a raw shard; the image's pixels start at 640 in it."""
    height, width = size
    target = NPY_HEADER + height * width if spatial else 1
    contents = (NPY_HEADER + height * width * channels, target)
    return sum(TAR_BLOCK + padded(length) for length in contents)


def padded(length: int) -> int:
    return -(-length // TAR_BLOCK) * TAR_BLOCK
