"""MNIST, Fashion-MNIST and EMNIST: the official idx files, gzipped or not; EMNIST also in ``gzip.zip``."""

from __future__ import annotations

import math
import string
import struct
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError, did_you_mean
from pipeline.data.raw.archives import zip_members
from pipeline.data.raw.arrays import Arrays, need, staged
from pipeline.data.raw.blobs import Blob, Tree
from pipeline.data.raw.compressed import inflate_gzip
from pipeline.data.raw.listing import Listing, Reader, Source

MNIST_FILES = {"train": "train", "test": "t10k"}


MAX_AXES = 3


MAX_ARRAY_BYTES = 1 << 30
"""Of an array that is read into memory; EMNIST's ByClass, the largest one, has 547 MB."""


MNIST_CLASSES = list(string.digits)


FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


_MERGED = string.digits + string.ascii_uppercase + "abdefghnqrt"  # lower case where it looks different


EMNIST_CLASSES = {
    "byclass": list(string.digits + string.ascii_uppercase + string.ascii_lowercase),
    "bymerge": list(_MERGED),
    "balanced": list(_MERGED),
    "letters": list(string.ascii_uppercase),
    "digits": list(string.digits),
}
"""Classes of each EMNIST split, in the order of its labels (Cohen et al. 2017, table II)."""


def read_mnist(source: Source) -> Listing:
    """Return the official train and test images, 28x28 grey; option ``fashion: true`` for Fashion-MNIST's names."""
    names = FASHION_CLASSES if source.options.get("fashion") else MNIST_CLASSES
    splits = {}
    for split, prefix in MNIST_FILES.items():
        images, labels = (_file(source.files, prefix, kind, source.root) for kind in ("images", "labels"))
        splits[split] = staged(source, split, partial(_load, images, labels), len(names))
    return Listing(names, splits)


def read_emnist(source: Source) -> Listing:
    """List the samples. Option ``split``: byclass, bymerge, balanced (default), letters or digits.

    The files hold every image transposed, and Letters counts its labels from 1: both are put right.
    """
    name = str(source.options.get("split", "balanced")).lower()
    if name not in EMNIST_CLASSES:
        raise UserError(
            f"options.split: got {name!r}{did_you_mean(name, EMNIST_CLASSES)}, "
            f"allowed: {', '.join(EMNIST_CLASSES)}"
        )
    files: Tree = source.files
    archives = [path for path in files if path.endswith("gzip.zip")]
    if archives:
        files = zip_members(files[archives[0]], archives[0])
    splits = {}
    for split in ("train", "test"):
        prefix = f"emnist-{name}-{split}"
        images, labels = (_file(files, prefix, kind, source.root) for kind in ("images", "labels"))

        def load(images: Blob = images, labels: Blob = labels) -> Arrays:
            pixels, classes = _load(images, labels)
            first = 1 if name == "letters" else 0
            return np.ascontiguousarray(pixels.transpose(0, 2, 1)), [label - first for label in classes]

        splits[split] = staged(source, f"{name}-{split}", load, len(EMNIST_CLASSES[name]))
    return Listing(EMNIST_CLASSES[name], splits)


def parse_idx(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return the uint8 array in idx bytes (two zeros, type 8, number of axes, big-endian lengths, values).

    Raises:
        UserError: other bytes, or too few.
    """
    shape = _idx_shape(data, name)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape))
    if values.size != math.prod(shape):
        raise UserError(f"{name}: {values.size} values or more, its header says {shape}; download it again")
    return values.reshape(shape)


def _idx_shape(data: bytes, name: str) -> tuple[int, ...]:
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise UserError(f"{name}: not an idx file of bytes; download it again")
    axes = data[3]
    if not 1 <= axes <= MAX_AXES:
        raise UserError(f"{name}: an array of {axes} axes, expected 1 to {MAX_AXES}; download it again")
    if len(data) < 4 + 4 * axes:
        raise UserError(f"{name}: cut short; download it again")
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    if math.prod(shape) > MAX_ARRAY_BYTES:
        raise UserError(f"{name}: its header says {shape}, over {MAX_ARRAY_BYTES} bytes; download it again")
    return shape


def _load(images: Blob, labels: Blob) -> Arrays:
    return _read(images), _read(labels).tolist()


def _read(blob: Blob) -> NDArray[np.uint8]:
    """Return the array in an idx file, gzipped or not; no more is inflated than its header says."""
    name = blob.file
    header = inflate_gzip(blob, name, 4 + 4 * MAX_AXES)
    shape = _idx_shape(header, name)
    return parse_idx(inflate_gzip(blob, name, 4 + 4 * len(shape) + math.prod(shape) + 1), name)


def _file(files: Tree, prefix: str, kind: str, root: str) -> Blob:
    """Return one idx file; Kaggle's copies have a dot in their names."""
    ending = {"images": "-idx3-ubyte", "labels": "-idx1-ubyte"}[kind]
    names = [f"{prefix}-{kind}{end}" for end in (f"{ending}.gz", ending, ending.replace("-", ".", 1))]
    return need(files, names, root, "put the official idx files there, gzipped or not")


_HINT = "-images-idx3-ubyte.gz and -labels-idx1-ubyte.gz"


MNIST_READER = Reader(
    read=read_mnist, files=f"put train{_HINT}, and t10k{_HINT} into the root", options=frozenset({"fashion"})
)


EMNIST_READER = Reader(
    read=read_emnist,
    files="put gzip.zip (nist.gov, EMNIST) or its emnist-*-ubyte.gz files into the root",
    options=frozenset({"split"}),
)
