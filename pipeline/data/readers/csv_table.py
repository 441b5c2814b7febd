"""A table of images: CSV files with a column of image paths and one of labels, or of mask paths.

Columns are named by the options ``image``, ``label``, ``mask`` and ``split``; usual names are found without. Several
labels per image are one cell with a ``delimiter``, or a column of 0 and 1 per class (``label: a, b, c``). Without
a column of splits, ``train.csv`` and ``val.csv`` are the splits, or all is ``train``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from pipeline.core.errors import UserError, did_you_mean, one_line
from pipeline.data.raw.blobs import Blob, Tree, is_image
from pipeline.data.raw.layout import account, split_of, with_archives
from pipeline.data.raw.listing import Listing, Reader, Source
from pipeline.data.raw.records import Record, Value, listing_of, number_or_name
from pipeline.data.raw.text import read_lines

USUAL = {
    "image": ("image", "filename", "file_name", "file", "path", "image_path", "image_id", "id"),
    "label": ("label", "labels", "class", "class_name", "category", "target"),
    "mask": ("mask", "mask_path", "segmentation"),
    "split": ("split", "subset", "set"),
    "group": (),  # folds keep together what an option says; nothing by itself
}
"""Names of the columns, in the order in which they are looked for."""


def read(source: Source) -> Listing:
    """List the rows of the tables; a row whose image is not there is left out and named.

    Raises:
        UserError: no table, a column or an image that is not clear, or a label that train lacks.
    """
    tree = with_archives(source, lambda _: True, names_count=True)
    lookup = _Lookup(tree)
    records: list[Record] = []
    for name in _tables(tree, source):
        lines = read_lines(tree[name], name)
        records += _records(lines, name, _columns(lines, name, source), lookup, source)
    seen: set[tuple[str, str]] = set()
    for record in records:
        if (record.split, record.name) in seen:
            raise UserError(f"{source.root}: {record.name} occurs in two rows; keep one of them")
        seen.add((record.split, record.name))
    taken = [item for record in records for item in (record.image, record.answer) if isinstance(item, Blob)]
    return listing_of(records, source, None, account(tree, [], taken))


class _Lookup:
    """Finds the images of ``tree`` by what tables call them: a path, its end, with or without the suffix."""

    def __init__(self, tree: Tree) -> None:
        self._by_end: dict[str, Blob | None] = {}
        for name, blob in tree.items():
            if is_image(name):
                parts = name.split("/")
                for start in range(len(parts)):
                    end = "/".join(parts[start:])
                    for key in (end, str(PurePosixPath(end).with_suffix(""))):
                        self._by_end[key] = None if self._by_end.get(key, blob) != blob else blob
        self._by_path = {name: blob for name, blob in tree.items() if is_image(name)}

    def find(self, path: str, place: str) -> Blob | None:
        """Return the image that ``path`` names, or None.

        Raises:
            UserError: several are called so.
        """
        name = path.replace("\\", "/").removeprefix("./").lstrip("/")
        if name in self._by_path:
            return self._by_path[name]
        found = self._by_end.get(name)
        if found is None and name in self._by_end:
            raise UserError(f"{place}: several images are called {path!r}; write more of its path")
        return found


def _tables(tree: Tree, source: Source) -> list[str]:
    tables = [name for name in tree if name.lower().endswith((".csv", ".tsv"))]
    wanted = source.options.get("file")
    if wanted is not None:
        tables = [name for name in tables if name == wanted or name.endswith(f"/{wanted}")]
    elif len(tables) > 1:
        tables = [name for name in tables if split_of(PurePosixPath(name).stem)]
    if not tables or (wanted is not None and len(tables) > 1):
        raise UserError(
            f"{source.root}: no table called {wanted or 'train.csv'}, or several; {READER.files}; or set options.file"
        )
    return tables


def _cells(lines: Sequence[str], name: str) -> Iterator[list[str]]:
    separator = max(",;\t", key=lines[0].count) if lines else ","
    try:
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error as error:
        raise UserError(f"{name}: not a table ({one_line(error)}); mend it") from None


def _columns(lines: Sequence[str], name: str, source: Source) -> dict[str, list[int]]:
    """Return the numbers of the columns of each role that the table has.

    Raises:
        UserError: a column that an option names is not there, or none of images or of labels and masks.
    """
    header = [cell.strip() for cell in next(_cells(lines, name), [])]
    found: dict[str, list[int]] = {}
    for role, usual in USUAL.items():
        option = source.options.get(role)
        asked = [column.strip() for column in str(option).split(",")] if option is not None else []
        for column in asked:
            if header.count(column) != 1:
                raise UserError(
                    f"options.{role}: got {column!r}{did_you_mean(column, header)}, {name} has: {', '.join(header)}"
                )
        known = [column for column in usual if column in map(str.casefold, header)][:1]
        places = [header.index(column) for column in asked]
        places = places or [[cell.casefold() for cell in header].index(column) for column in known]
        if places:
            found[role] = places
    if "image" not in found or ("label" in found) == ("mask" in found):
        raise UserError(
            f"{name}: needs a column of images and either one of labels or one of masks, has: {', '.join(header)}; "
            "set options.image and options.label or options.mask"
        )
    return found


def _records(
    lines: Sequence[str], name: str, columns: dict[str, list[int]], lookup: _Lookup, source: Source
) -> Iterator[Record]:
    width = 1 + max(place for places in columns.values() for place in places)
    whole = split_of(PurePosixPath(name).stem) or "train"
    cells = _cells(lines, name)
    header = [cell.strip() for cell in next(cells)]
    for number, cell in enumerate(cells, 2):
        row, place = [text.strip() for text in cell], f"{name}, row {number}"
        if not any(row):
            continue
        if len(row) < width or not row[columns["image"][0]]:
            raise UserError(
                f"{place}: {len(row)} cells or no image, expected {len(header)} cells; mend that row"
            )
        written = row[columns["split"][0]] if "split" in columns else whole
        split = split_of(written)
        if split is None:
            raise UserError(f"{place}: {written!r} is no split (train, val, test); mend that row")
        path = row[columns["image"][0]]
        image, missing = lookup.find(path, place), ""
        answer = _answer(row, columns, header, place, source)
        if "mask" in columns:
            missing = f"{place}: no mask {answer}"
            answer = lookup.find(str(answer), place)
            missing = missing if answer is None else ""
        group = row[columns["group"][0]] or None if "group" in columns else None
        lost = missing if image else f"{place}: no such image"
        yield Record(f"{split}/{path}", split, image, answer, lost, group)


def _answer(
    row: list[str], columns: dict[str, list[int]], header: list[str], place: str, source: Source
) -> Value | Blob | None:
    """Return the path of a row's mask, its label, or its labels."""
    if "mask" in columns:
        return row[columns["mask"][0]]
    cells = [row[i] for i in columns["label"]]
    if len(cells) > 1:
        if set(cells) - {"0", "1"}:
            raise UserError(f"{place}: {', '.join(cells)}; columns of several classes hold 0 or 1")
        return [header[i] for i, cell in zip(columns["label"], cells, strict=True) if cell == "1"]
    delimiter = source.options.get("delimiter")
    if delimiter is not None:
        return [number_or_name(label.strip()) for label in cells[0].split(str(delimiter)) if label.strip()]
    if not cells[0]:
        raise UserError(f"{place}: no label; write one, or set options.delimiter where images may have none")
    return number_or_name(cells[0])


READER = Reader(
    read=read,
    files="put one table (.csv) of image paths and labels or masks, or train.csv and val.csv, and the images into the "
    "root",
    options=frozenset(
        {"file", "image", "label", "mask", "split", "group", "delimiter", "classes", "colours", "ignore"}
    ),
)
