"""Readers of raw data: one per layout, by the name that ``reader:`` in params.yaml gives.

A reader lists samples as references into the user's files; nothing is decoded, and nothing is unpacked that
allows random access. To add a dataset: write ``read(source) -> Listing`` in a file of its own and name its
`Reader` in `READERS`.
"""

from __future__ import annotations

import errno

from pipeline.core.errors import UserError, did_you_mean
from pipeline.core.source_code import source_digest
from pipeline.data.raw.listing import Listing, Reader, Source, normal_name
from pipeline.data.readers import (
    cifar,
    cityscapes,
    csv_table,
    idx,
    image_folder,
    imagenet,
    inat2021,
    mask_folder,
    parquet,
    places365,
    stl10,
    svhn,
    tiny_imagenet,
    webdataset,
)

READERS: dict[str, Reader] = {
    "image_folder": image_folder.READER,
    "mask_folder": mask_folder.READER,
    "csv": csv_table.READER,
    "parquet": parquet.READER,
    "webdataset": webdataset.READER,
    "cifar": cifar.READER,
    "cityscapes": cityscapes.READER,
    "emnist": idx.EMNIST_READER,
    "imagenet": imagenet.READER,
    "imagenet64": imagenet.SMALL_READER,
    "inat2021": inat2021.READER,
    "mnist": idx.MNIST_READER,
    "places365": places365.READER,
    "stl10": stl10.READER,
    "svhn": svhn.READER,
    "tiny_imagenet": tiny_imagenet.READER,
}


def find_reader(name: str) -> Reader:
    """Return the reader called ``name``.

    Raises:
        UserError: there is none.
    """
    if name not in READERS:
        raise UserError(
            f"reader: got {name!r}{did_you_mean(name, READERS)}, allowed: {', '.join(sorted(READERS))}"
        )
    return READERS[name]


READING = ("pipeline.data.readers", "pipeline.data.raw")
"""Packages whose code decides how a dataset is read."""


def reader_digest(name: str) -> str:
    """Return the digest of the source of the reader called ``name`` and of what it imports of `READING`.

    Raises:
        UserError: there is none.
    """
    return source_digest([find_reader(name).read.__module__], READING)


def read(name: str, source: Source) -> Listing:
    """List the samples of ``source`` with the reader called ``name``.

    Raises:
        UserError: an unknown reader or option, files that are not what the reader reads, or no train image.
    """
    reader = find_reader(name)
    for option in source.options:
        if option not in reader.options:
            allowed = ", ".join(sorted(reader.options)) or "none"
            raise UserError(
                f"options: got {option!r}{did_you_mean(option, reader.options)}, "
                f"reader {name} knows: {allowed}"
            )
    try:
        listing = reader.read(source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{source.root}: cannot be read: {error}; mend the file or its permissions") from None
    _check(listing, source, reader)
    return listing


def _check(listing: Listing, source: Source, reader: Reader) -> None:
    """Refuse a listing that nothing can be trained on.

    Raises:
        UserError: no train image, or a class name that is empty or occurs twice.
    """
    if not listing.splits.get("train"):
        lost = listing.left_out.get("train", [])
        why = f": {lost[0].name}: {lost[0].reason} ({len(lost)} like that)" if lost else ""
        raise UserError(f"{source.root}: no image to train on{why}; {reader.files}")
    seen: set[str] = set()
    for name in listing.class_names:
        normal = normal_name(name).strip()
        if not normal or normal in seen:
            raise UserError(
                f"{source.root}: the class name {name!r} is empty or occurs twice; give each class a name of its own"
            )
        seen.add(normal)
