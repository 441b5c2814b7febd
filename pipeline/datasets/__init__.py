"""Readers of raw data: one per layout, by the name that ``reader:`` in params.yaml gives.

A reader lists samples as references into the user's files; nothing is unpacked, nothing is decoded.
To add a dataset: write ``read(source) -> Listing`` in a file of its own and name it in `READERS`.
"""

from __future__ import annotations

from pipeline.datasets import cityscapes, image_folder
from pipeline.datasets.listing import Listing, Reader, Source
from pipeline.errors import UserError, did_you_mean

READERS: dict[str, Reader] = {
    "image_folder": image_folder.READER,
    "cityscapes": cityscapes.READER,
}


def find_reader(name: str) -> Reader:
    """The reader called ``name``.

    Raises:
        UserError: there is none.
    """
    if name not in READERS:
        raise UserError(
            f"reader: got {name!r}{did_you_mean(name, READERS)}, allowed: {', '.join(sorted(READERS))}"
        )
    return READERS[name]


def read(name: str, source: Source) -> Listing:
    """List the samples of ``source`` with the reader called ``name``.

    Raises:
        UserError: an unknown reader or option, or files that are not what the reader reads.
    """
    reader = find_reader(name)
    for option in source.options:
        if option not in reader.options:
            allowed = ", ".join(sorted(reader.options)) or "none"
            raise UserError(
                f"options: got {option!r}{did_you_mean(option, reader.options)}, "
                f"reader {name} knows: {allowed}"
            )
    return reader.read(source)
