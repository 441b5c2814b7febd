"""Rows of tables, of Parquet files and of WebDataset tars, made into a listing in one way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.listing import Listing, Sample, Source
from pipeline.data.raw.masks import mask_classes, option_names
from pipeline.data.shards.manifest import LeftOut, PassedOver

Value = int | str | Sequence[int | str]
"""A class by its number or name, or several of them."""


MAX_CLASSES = 100_000
"""A label is a class's number only below this; the largest public dataset has some 20,000 classes."""


@dataclass(frozen=True)
class Record:
    """One row: an image with a mask or with labels. ``missing`` says what is not there, then it is left out."""

    name: str
    split: str
    image: Blob | None
    answer: Blob | Value | None
    missing: str = ""
    group: str | None = None
    """As of `Sample`."""


def listing_of(
    records: Sequence[Record], source: Source, names: Sequence[str] | None, passed_over: dict[str, PassedOver]
) -> Listing:
    """Return the listing of ``records``: of masks where the answers are blobs, else of classes.

    ``names`` are the classes in the order of their numbers; the option ``classes`` goes first. Without either numbers
    are named by themselves, and names are sorted by code point; every class must then occur in train.

    Raises:
        UserError: masks without class names, numbers and names mixed, or a class that is not among the classes.
    """
    left_out: dict[str, list[LeftOut]] = {}
    whole: dict[str, list[Record]] = {}
    for record in records:
        if record.missing:
            left_out.setdefault(record.split, []).append(LeftOut(name=record.name, reason=record.missing))
        else:
            whole.setdefault(record.split, []).append(record)
    if any(isinstance(record.answer, Blob) for record in records):
        classes, labels = mask_classes(source)
        splits = {split: [_sample(item, item.answer) for item in found] for split, found in whole.items()}
        return Listing(classes, splits, labels, left_out, passed_over)
    classes, splits = _classified(whole, option_names(source.options) or names, source.root)
    return Listing(classes, splits, None, left_out, passed_over)


def _sample(record: Record, target: object) -> Sample:
    assert record.image is not None
    assert isinstance(target, int | tuple | Blob)
    return Sample(record.name, record.image, target, record.group)


def _classified(
    records: Mapping[str, Sequence[Record]], names: Sequence[str] | None, where: str
) -> tuple[list[str], dict[str, list[Sample]]]:
    answers = {split: [_as_list(item) for item in found] for split, found in records.items()}
    several = any(isinstance(item.answer, list | tuple) for found in records.values() for item in found)
    if names is None:
        names = _names(answers.get("train", []), where)
    index = {name: i for i, name in enumerate(names)}
    splits: dict[str, list[Sample]] = {}
    for split, found in records.items():
        splits[split] = []
        for record, answer in zip(found, answers[split], strict=True):
            classes = sorted({_index(item, index, f"{where}: {record.name}") for item in answer})
            if not several and len(classes) != 1:
                raise UserError(
                    f"{where}: {record.name} has {len(classes)} labels, others have one; mend that row"
                )
            splits[split].append(_sample(record, tuple(classes) if several else classes[0]))
    return list(names), splits


def _as_list(record: Record) -> Sequence[int | str]:
    answer = record.answer
    if isinstance(answer, list | tuple):
        return answer
    return [answer] if isinstance(answer, int | str) else []


def _names(train: Iterable[Sequence[int | str]], where: str) -> list[str]:
    found = {item for value in train for item in value}
    numbers = [item for item in found if isinstance(item, int)]
    if len(numbers) < len(found):
        return sorted(str(item) for item in found)
    if max(numbers, default=0) >= MAX_CLASSES or min(numbers, default=0) < 0:
        raise UserError(
            f"{where}: labels from {min(numbers)} to {max(numbers)} are no class numbers from 0 to {MAX_CLASSES - 1}; "
            "give names instead"
        )
    return [str(i) for i in range(max(numbers, default=-1) + 1)]


def _index(item: int | str, index: Mapping[str, int], where: str) -> int:
    found = index.get(str(item))
    if found is None and isinstance(item, int) and 0 <= item < len(index):
        found = item
    if found is None:
        raise UserError(
            f"{where}: the label {item!r} is not among the {len(index)} classes of train; mend that row"
        )
    return found


def number_or_name(text: str) -> int | str:
    """Return the label ``text`` as a number where it is written as one, without leading zeros."""
    return int(text) if text.isascii() and text.isdigit() and str(int(text[:18])) == text else text
