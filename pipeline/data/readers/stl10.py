"""STL-10: the labelled images of ``stl10_binary.tar.gz``, or its unpacked ``.bin`` files."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_gz_files
from pipeline.data.raw.arrays import Arrays, staged
from pipeline.data.raw.listing import Listing, Reader, Source

SIDE = 96  # pixels


CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")


def read(source: Source) -> Listing:
    """Return the 5,000 train and 8,000 test images; the unlabelled ones are left alone."""
    archives = [name for name in source.files if name.endswith(".tar.gz")]
    content: dict[str, bytes] = {}

    def load(split: str) -> Arrays:
        if not content:
            content.update(_contents(source, archives))
        return _decode(content, split)

    splits = {split: staged(source, split, partial(load, split), len(CLASSES)) for split in ("train", "test")}
    return Listing(CLASSES, splits)


def _contents(source: Source, archives: list[str]) -> dict[str, bytes]:
    if archives:
        return tar_gz_files(source.files[archives[0]], archives[0], FILES.__contains__)
    unpacked = {name.rsplit("/", 1)[-1]: blob for name, blob in source.files.items()}
    return {name: unpacked[name].read() for name in FILES if name in unpacked}


def _decode(content: dict[str, bytes], split: str) -> Arrays:
    """List the samples. Images are stored (N, 3, W, H), each colour column by column; labels count from 1."""
    missing = [name for name in FILES if name not in content]
    if missing:
        raise UserError(f"STL-10: no {missing[0]} found; {READER.files}")
    values = np.frombuffer(content[f"{split}_X.bin"], np.uint8)
    if values.size % (3 * SIDE * SIDE):
        raise UserError(f"{split}_X.bin: {values.size} bytes, not whole images; download it again")
    images = values.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
    labels = np.frombuffer(content[f"{split}_y.bin"], np.uint8).astype(int) - 1
    return np.ascontiguousarray(images), labels.tolist()


READER = Reader(
    read=read,
    files="put stl10_binary.tar.gz (ai.stanford.edu/~acoates/stl10) or its .bin files into the root",
)
