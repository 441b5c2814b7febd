"""Parquet files as the Hugging Face hub distributes image datasets: a column of ``{bytes, path}`` and one of labels.

Parquet has no random access to one image. The encoded images are put one after another into a file in the scratch
folder, a few rows at a time, and read from there; it is deleted when the shards are whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.atomic import atomic_file, write_atomically
from pipeline.core.errors import UserError, did_you_mean, one_line
from pipeline.core.hashing import configuration_hash
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.layout import account, split_in_path
from pipeline.data.raw.listing import Listing, Reader, Source
from pipeline.data.raw.records import Record, listing_of
from pipeline.data.raw.streams import open_blob

ROWS = 64
"""Rows in memory at a time, besides the compressed pages of their row group."""


USUAL = {
    "image": ("image", "img", "jpg", "png", "webp"),
    "label": ("label", "labels", "fine_label", "class", "cls"),
    "mask": ("mask", "annotation", "segmentation_mask", "semantic_mask", "label", "labels"),
}
"""Names of the columns, in the order in which they are looked for."""


class _Columns(NamedTuple):
    image: str
    answer: str
    masks: bool
    names: list[str] | None
    """Class names, from the schema's metadata."""


def read(source: Source) -> Listing:
    """List the rows of all files; options ``image``, ``label`` and ``mask`` name the columns.

    Classes are those of the schema or of the option ``classes``, which masks need.

    Raises:
        UserError: no Parquet file, one that is damaged, or columns that are not clear.
    """
    import pyarrow.parquet

    files = {name: blob for name, blob in source.files.items() if name.lower().endswith(".parquet")}
    if not files:
        raise UserError(f"{source.root}: no .parquet files; {READER.files}")
    records: list[Record] = []
    names: list[str] | None = None
    for name, blob in files.items():
        try:
            with open_blob(blob) as stream, pyarrow.parquet.ParquetFile(stream) as table:
                columns = _columns(table.schema_arrow, name, source)
                names = columns.names or names
                records += _records(table, columns, name, blob, source)
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{name}: not a whole Parquet file ({one_line(error)}); download it again"
            ) from None
    return listing_of(records, source, names, account(source.files, [], files.values()))


def _columns(schema: Any, name: str, source: Source) -> _Columns:
    """Return which columns to read.

    Raises:
        UserError: one that an option names is not there, or it is not clear which.
    """
    images = [field.name for field in schema if _holds_images(field.type)]
    found = {}
    for role, usual in USUAL.items():
        asked = source.options.get(role)
        if asked is not None and asked not in schema.names:
            raise UserError(
                f"options.{role}: got {asked!r}{did_you_mean(str(asked), schema.names)}, "
                f"{name} has: {', '.join(schema.names)}"
            )
        possible = [
            column for column in usual if column in schema.names and (column in images) == (role != "label")
        ]
        found[role] = str(asked) if asked is not None else next(iter(possible), "")
    image = found["image"] if found["image"] in images else ""
    mask = found["mask"] if found["mask"] != image else ""
    answer = mask or found["label"]
    if not image or not answer or (mask and mask not in images):
        raise UserError(
            f"{name}: needs a column of images and one of labels or masks, has: {', '.join(schema.names)}; "
            "set options.image and options.label or options.mask"
        )
    return _Columns(image, answer, bool(mask), None if mask else _class_names(schema, answer))


def _holds_images(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _class_names(schema: Any, column: str) -> list[str] | None:
    """Return the class names that the `datasets` library keeps in the schema's metadata, or None."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        while "names" not in feature:  # a list of labels wraps the feature of one
            feature = feature["feature"]
        return [str(name) for name in feature["names"]]
    except (LookupError, ValueError, TypeError):
        return None


def _records(table: Any, columns: _Columns, name: str, blob: Blob, source: Source) -> Iterator[Record]:
    """Return the records of one file, after putting its images and masks into the scratch folder."""
    split = split_in_path(name) or "train"
    images = _spooled(table, columns.image, name, blob, source)
    if columns.masks:
        answers: list[Any] = _spooled(table, columns.answer, name, blob, source)
    else:
        answers = [
            value for batch in table.iter_batches(columns=[columns.answer]) for value in batch[0].to_pylist()
        ]
    for row, (image, answer) in enumerate(zip(images, answers, strict=True)):
        if not columns.masks and not isinstance(answer, int | str | list):
            answer = None
        missing = "" if image else f"no bytes in the column {columns.image}"
        missing = missing or ("" if answer is not None else f"nothing in the column {columns.answer}")
        yield Record(f"{name}[{row}]", split, image, answer, missing)


def _spooled(table: Any, column: str, name: str, blob: Blob, source: Source) -> list[Blob | None]:
    """Return where the bytes of each row of ``column`` lie in a file of their own; a finished one is kept."""
    key = configuration_hash(name, str(blob.version), column)
    data, index = source.scratch / f"{key}.bin", source.scratch / f"{key}.json"
    if not index.exists():
        with atomic_file(data) as partial:
            lengths = _spool(table, column, partial)
        write_atomically(index, json.dumps(lengths))
    found: list[Blob | None] = []
    offset = 0
    for length in json.loads(index.read_text()):
        found.append(None if length is None else Blob(str(data), offset, length, version=blob.version))
        offset += length or 0
    return found


def _spool(table: Any, column: str, target: Path) -> list[int | None]:
    """Write the bytes of all rows to ``target``; return their lengths, None where a row has none."""
    import pyarrow

    lengths: list[int | None] = []
    with target.open("wb") as stream:
        for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
            values = batch.column(0)
            values = values.field("bytes") if pyarrow.types.is_struct(values.type) else values
            for value in values:
                data = value.as_py()
                lengths.append(None if data is None else stream.write(data))
    return lengths


READER = Reader(
    read=read,
    files="put the .parquet files of a dataset from the Hugging Face hub into the root, named after their splits "
    "(train-00000-of-00002.parquet, or train/0000.parquet)",
    options=frozenset({"image", "label", "mask", "classes", "colours", "ignore"}),
)
