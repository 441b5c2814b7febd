"""SVHN, cropped digits: the official ``.mat`` files."""

from __future__ import annotations

import io
from functools import partial

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.raw.arrays import Arrays, need, staged
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.listing import Listing, Reader, Source

CLASSES = [str(digit) for digit in range(10)]


def read(source: Source) -> Listing:
    """``train_32x32.mat`` and ``test_32x32.mat``; option ``extra: true`` adds ``extra_32x32.mat``."""
    splits = {}
    for split in ("train", "test", *(("extra",) if source.options.get("extra") else ())):
        name = f"{split}_32x32.mat"
        blob = need(source.files, [name], source.root, READER.files)
        splits[split] = staged(source, split, partial(_load, blob, name), len(CLASSES))
    splits["train"] += splits.pop("extra", [])
    return Listing(CLASSES, splits)


def _load(blob: Blob, name: str) -> Arrays:
    """Images are stored (H, W, 3, N); class 10 is the digit 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(io.BytesIO(blob.read()))
        images, labels = content["X"], content["y"].ravel()
    except (MatReadError, ValueError, KeyError, TypeError, OSError, NotImplementedError) as error:
        raise UserError(f"{name}: not SVHN's .mat file ({error}); download it again") from None
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), [int(label) % 10 for label in labels]


READER = Reader(
    read=read,
    files="put train_32x32.mat and test_32x32.mat (ufldl.stanford.edu/housenumbers) into the root",
    options=frozenset({"extra"}),
)
