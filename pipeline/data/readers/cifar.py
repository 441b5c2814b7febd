"""CIFAR-10 and CIFAR-100: the official python pickles, in their ``.tar.gz`` or unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_gz_files
from pipeline.data.raw.arrays import Arrays, planes_to_pixels, staged
from pipeline.data.raw.listing import Listing, Reader, Source
from pipeline.data.raw.pickles import as_text, load_pickle, numbers

SIDE = 32  # pixels


LAYOUTS: dict[str, tuple[str, str, dict[str, tuple[str, ...]]]] = {
    "batches.meta": (
        "label_names",
        "labels",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    ),
    "meta": ("fine_label_names", "fine_labels", {"train": ("train",), "test": ("test",)}),
}
"""By the name of the file of class names (CIFAR-10's, CIFAR-100's): its key, the labels' key, the batches."""


def read(source: Source) -> Listing:
    """Return the official train and test images; CIFAR-100 with its 100 fine classes.

    Raises:
        UserError: the files of neither dataset are there, or they are damaged.
    """
    content = _contents(source)
    for meta, (names_key, labels_key, batches) in LAYOUTS.items():
        if meta not in content:
            continue
        names = _names(_load(content, meta).get(names_key), meta)
        splits = {
            split: staged(source, split, partial(_join, content, files, labels_key), len(names))
            for split, files in batches.items()
        }
        return Listing(names, splits)
    raise UserError(f"{source.root}: no CIFAR files; {READER.files}")


def _contents(source: Source) -> dict[str, bytes]:
    """Return the batch files by base name, from the archive or from an unpacked folder."""
    wanted = {
        name for meta, (_, _, batches) in LAYOUTS.items() for name in (meta, *sum(batches.values(), ()))
    }
    archives = [name for name in source.files if name.endswith(".tar.gz")]
    if archives:
        return tar_gz_files(source.files[archives[0]], archives[0], wanted.__contains__)
    unpacked = {name.rsplit("/", 1)[-1]: blob for name, blob in source.files.items()}
    return {name: blob.read() for name, blob in unpacked.items() if name in wanted}


def _join(content: dict[str, bytes], files: Sequence[str], labels_key: str) -> Arrays:
    batches = {name: _load(content, name) for name in files}
    images = [planes_to_pixels(batch.get("data"), SIDE, name) for name, batch in batches.items()]
    labels = [numbers(batch.get(labels_key), name) for name, batch in batches.items()]
    return np.concatenate(images), [label for part in labels for label in part]


def _load(content: dict[str, bytes], name: str) -> dict[str, Any]:
    if name not in content:
        raise UserError(f"{name}: missing beside the other CIFAR files; download the archive again")
    return load_pickle(content[name], name)


def _names(value: Any, meta: str) -> list[str]:
    try:
        return [as_text(name) for name in value]
    except TypeError:
        raise UserError(f"{meta}: holds no class names; download the archive again") from None


READER = Reader(
    read=read,
    files="put cifar-10-python.tar.gz or cifar-100-python.tar.gz (cs.toronto.edu/~kriz) into the root",
)
