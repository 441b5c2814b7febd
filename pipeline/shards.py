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

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.manifest import Shard

TAR_BLOCK = 512  # bytes
NPY_HEADER = 128  # bytes, numpy's header for every small array
EXTENSIONS = {"raw": "npy", "png": "png", "jpeg": "jpg", "webp": "webp"}

Pixels = NDArray[np.uint8]
Target = int | Pixels


def shard_name(split: str, index: int) -> str:
    return f"{split}-{index:06d}.tar"


def size_name(size: tuple[int, int]) -> str:
    """Folder of the shards of ``size`` (height, width)."""
    return f"{size[0]}x{size[1]}"


def encode_image(image: Pixels, encoding: str, quality: int) -> bytes:
    """``image`` uint8 (H, W, C) in the bytes that a shard holds."""
    if encoding == "raw":
        return _npy(image)
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
    """What a reader will see of ``data``, uint8 (H, W, C): ``lossless`` itself for the exact encodings."""
    if encoding in ("raw", "png"):
        return lossless
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(lossless.shape)


def members(image: bytes, target: Target, encoding: str) -> tuple[tuple[str, bytes], ...]:
    """Extension and content of each member of a sample, in their order in the tar."""
    head = (EXTENSIONS[encoding], image)
    if isinstance(target, int):
        return head, ("cls", str(target).encode())
    if encoding == "raw":
        return head, ("mask.npy", _npy(target))
    buffer = io.BytesIO()
    Image.fromarray(target).save(buffer, "PNG", compress_level=6)
    return head, ("mask.png", buffer.getvalue())


def sample_stride(size: tuple[int, int], channels: int, task: str) -> int:
    """Bytes that each sample takes in a raw shard; the image's pixels start at 640 in it."""
    height, width = size
    target = NPY_HEADER + height * width if task == "segmentation" else 1
    contents = (NPY_HEADER + height * width * channels, target)
    return sum(TAR_BLOCK + _padded(length) for length in contents)


class ShardWriter:
    """Writes one tar; leaving the ``with`` block without an error ends the archive."""

    def __init__(self, path: Path) -> None:
        self.samples = 0
        self.bytes = 0
        self._path = path
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file: BinaryIO = self._path.open("wb", buffering=1 << 20)
        return self

    def add(self, key: int, content: Sequence[tuple[str, bytes]]) -> None:
        """Append one sample: extension and bytes of each member."""
        for extension, data in content:
            padding = bytes(_padded(len(data)) - len(data))
            self._write(b"".join((_header(f"{key:019d}.{extension}", len(data)), data, padding)))
        self.samples += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._write(bytes(2 * TAR_BLOCK))

    def shard(self, name: str | None = None) -> Shard:
        """What was written, to be called ``name`` (the file's own when None)."""
        return Shard(
            name=name or self._path.name,
            samples=self.samples,
            bytes=self.bytes,
            sha256=self._hash.hexdigest(),
        )

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)


def _header(name: str, length: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = length
    info.mode = 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padded(length: int) -> int:
    return -(-length // TAR_BLOCK) * TAR_BLOCK


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
