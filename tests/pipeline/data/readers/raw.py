"""Raw formats in a few lines each, and what a reader's listing is checked against."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.raw.listing import Listing, Row

Pixels = NDArray[np.uint8]


def tar_of(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def contents(listing: Listing, split: str) -> list[tuple[Pixels, Any]]:
    """Image and target of each sample, decoded, in the listing's order."""

    def pixels(item: Any) -> Any:
        if isinstance(item, Row):
            return item.read()
        return item if isinstance(item, int) else np.asarray(Image.open(io.BytesIO(item.read())))

    return [(pixels(sample.image), pixels(sample.target)) for sample in listing.splits[split]]


def check(listing: Listing, split: str, images: list[Pixels], targets: list[Any]) -> None:
    got = contents(listing, split)
    assert len(got) == len(images) == len(targets)
    for (image, target), want_image, want_target in zip(got, images, targets, strict=True):
        np.testing.assert_array_equal(image, want_image)
        np.testing.assert_array_equal(target, want_target)


def tar_gz(content: dict[str, bytes]) -> bytes:
    return gzip.compress(tar_of(content))


def idx(array: NDArray[Any]) -> bytes:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())
