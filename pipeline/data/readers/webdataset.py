"""WebDataset tars: members of one key are a sample, its image beside a ``.cls``, a ``.json`` or a mask.

They are what img2dataset writes and what the hub's ``-wds`` repositories hold. Images are read from the tars, here or
in an object store, without unpacking them. Splits are told by the tars' names (``imagenet-train-0001.tar``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pipeline.core.errors import UserError, one_line
from pipeline.data.raw.blobs import Blob, Tree, is_image
from pipeline.data.raw.layout import account, archive_stem, read_archive, split_in_path
from pipeline.data.raw.listing import Listing, Reader, Source
from pipeline.data.raw.records import Record, Value, listing_of, number_or_name
from pipeline.data.raw.streams import read_together
from pipeline.data.raw.text import read_lines

MAX_LABEL_BYTES = 1 << 20
"""Of a ``.cls`` or ``.json`` member."""


CLASS_NAMES = "classnames.txt"
"""Lies beside the tars of the hub's ``-wds`` repositories: a class per line."""


JSON_KEYS = ("label", "cls", "class", "labels")


def read(source: Source) -> Listing:
    """List the samples of all tars; option ``label`` names the key in ``.json``, ``mask`` the mask's extension.

    Raises:
        UserError: no tars, a damaged one, or samples without labels and masks.
    """
    tars = [
        name for name in source.files if archive_stem(name) is not None and not name.lower().endswith(".zip")
    ]
    if not tars:
        raise UserError(f"{source.root}: no .tar files; {READER.files}")
    records: list[Record] = []
    everything: dict[str, Blob] = {name: blob for name, blob in source.files.items() if name not in tars}
    skipped = dict(source.files.skipped)
    for name in tars:
        members = read_archive(source, name)
        records += _records(members, name, source)
        everything.update({f"{name}/{member}": blob for member, blob in members.items()})
        skipped.update({f"{name}/{member}": why for member, why in members.skipped.items()})
    listed = next((name for name in source.files if name.rsplit("/", 1)[-1] == CLASS_NAMES), None)
    names = read_lines(source.files[listed], listed) if listed else None
    taken = [item for record in records for item in (record.image, record.answer) if isinstance(item, Blob)]
    return listing_of(records, source, names, account(Tree(everything, skipped), [], taken))


def _records(members: Tree, tar: str, source: Source) -> Iterator[Record]:
    """Return the records of one tar, in its order."""
    samples: dict[str, dict[str, Blob]] = {}
    for member, blob in members.items():
        folder, _, base = member.rpartition("/")
        key, dot, extension = base.partition(".")
        if dot:
            samples.setdefault(f"{folder}/{key}", {})[extension.lower()] = blob
    split = split_in_path(tar) or "train"
    labels = _labels(samples, tar, source)
    for key, parts in samples.items():
        images = [extension for extension in parts if is_image(f"{key}.{extension}")]
        mask = str(source.options.get("mask", next((e for e in images if _is_mask(e, images)), "")))
        image = next((extension for extension in images if extension != mask), None)
        answer = parts.get(mask) if mask else labels.get(key)
        missing = "" if image else "no image among its members"
        missing = missing or ("" if answer is not None else "no .cls, no label in .json, and no mask")
        yield Record(f"{tar}/{key.lstrip('/')}", split, parts.get(image or ""), answer, missing)


def _is_mask(extension: str, images: list[str]) -> bool:
    """Return True when ``extension`` is a mask's beside another image: ``mask.png``, or ``png`` beside ``jpg``."""
    return len(images) > 1 and (extension.startswith(("mask", "seg", "label")) or extension == "png")


def _labels(samples: dict[str, dict[str, Blob]], tar: str, source: Source) -> dict[str, Value]:
    """Return the label of each key that has one; they are read in the order of the file, which is opened once."""
    kind = "json" if "label" in source.options else "cls"
    chosen = {key: kind if kind in parts else "json" for key, parts in samples.items()}
    blobs = {key: samples[key][ext] for key, ext in chosen.items() if ext in samples[key]}
    too_large = next((key for key, blob in blobs.items() if blob.length > MAX_LABEL_BYTES), None)
    if too_large is not None:
        raise UserError(f"{tar}: the label of {too_large} has over {MAX_LABEL_BYTES} bytes; mend the tar")
    found: dict[str, Value] = {}
    for key, data in zip(blobs, read_together(list(blobs.values())), strict=True):
        try:
            label = data.decode().strip() if chosen[key] == "cls" else _json_label(data, source)
        except (ValueError, RecursionError, AttributeError) as error:
            raise UserError(
                f"{tar}: the label of {key} cannot be read ({one_line(error)}); mend the tar"
            ) from None
        if isinstance(label, str) and label:
            found[key] = number_or_name(label)
        elif isinstance(label, int | list):
            found[key] = label
    return found


def _json_label(data: bytes, source: Source) -> object:
    content = json.loads(data)
    keys = (str(source.options["label"]),) if "label" in source.options else JSON_KEYS
    return next((content[key] for key in keys if content.get(key) is not None), None)


READER = Reader(
    read=read,
    files="put WebDataset tars with their split in their names (train-0000.tar) into the root; each sample has an "
    "image and a .cls, a .json with a label, or a mask (mask.png)",
    options=frozenset({"label", "mask", "classes", "colours", "ignore"}),
)
