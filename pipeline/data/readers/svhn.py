"""SVHN, cropped digits: the official ``.mat`` files."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.raw.arrays import Arrays, need, staged
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.listing import Listing, Reader, Source
from pipeline.data.raw.matlab import MAX_VARIABLE_BYTES, load_mat
from pipeline.data.raw.streams import open_stream

SHAPE = (32, 32, 3)


CLASSES = [str(digit) for digit in range(10)]


def read(source: Source) -> Listing:
    """Return ``train_32x32.mat`` and ``test_32x32.mat``; option ``extra: true`` adds ``extra_32x32.mat``."""
    splits = {}
    for split in ("train", "test", *(("extra",) if source.options.get("extra") else ())):
        name = f"{split}_32x32.mat"
        blob = need(source.files, [name], source.root, READER.files)
        splits[split] = staged(source, split, partial(_load, blob, name), len(CLASSES))
    splits["train"] += splits.pop("extra", [])
    return Listing(CLASSES, splits)


def _load(blob: Blob, name: str) -> Arrays:
    """List the samples. Images are stored (H, W, 3, N); class 10 is the digit 0."""
    with open_stream(blob) as stream:
        content = load_mat(stream.read(MAX_VARIABLE_BYTES), {"X", "y"}, name)
    images, labels = content["X"], content["y"]
    if not isinstance(images, np.ndarray) or images.shape[:3] != SHAPE or not isinstance(labels, np.ndarray):
        raise UserError(f"{name}: X is no array of {SHAPE} pixels, or y no numbers; download it again")
    if not np.isin(labels, range(1, 11)).all():
        raise UserError(f"{name}: y holds other labels than 1 to 10; is it the file of another dataset?")
    pixels = images.reshape(*SHAPE, -1)  # MATLAB drops an axis of length 1 at the end
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), [int(label) % 10 for label in labels.ravel()]


READER = Reader(
    read=read,
    files="put train_32x32.mat and test_32x32.mat (ufldl.stanford.edu/housenumbers) into the root",
    options=frozenset({"extra"}),
)
