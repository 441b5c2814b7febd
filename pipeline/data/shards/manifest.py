"""``manifest.json``: what a folder of shards holds. It is written last, so a folder that has one is whole."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.core.errors import UserError, did_you_mean, printable
from pipeline.core.storage import check_location
from pipeline.data.shards.findings import Findings, Printable, Record
from pipeline.data.shards.layout import TAR_BLOCK, Encoding, Filter, Geometry
from pipeline.data.shards.targets import IGNORE, TARGETS, TargetKind

FILE_NAME = "manifest.json"


INFO_NAME = "_info.json"
"""What timm's ``wds/`` datasets look for beside shards."""


STD_FLOOR = 1 / 255
"""Least standard deviation per channel that a manifest gives, one grey level: a constant channel becomes 0, not NaN."""


IMBALANCE = 10
"""Ratio of the largest to the smallest class of train from which on it is said."""


_NAMED = 5  # classes in a line


Byte = Annotated[int, Field(ge=0, le=255)]


_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Shard(Record):
    """One tar: plain WebDataset, readable without this project."""

    name: str
    samples: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not _SHARD_NAME.fullmatch(name):
            raise ValueError(
                f"shard {name!r}: allowed are plain file names of letters, digits, dots and dashes"
            )
        return name

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        # An image takes a header and a block at least, a target a header.
        if self.samples * 3 * TAR_BLOCK > self.bytes:
            raise ValueError(f"shard {self.name}: {self.samples} samples do not fit into {self.bytes} bytes")
        return self


class LeftOut(Record):
    """A raw file that is in no shard, and why."""

    name: Printable
    reason: Printable


class PassedOver(Record):
    """Raw files that no sample was expected of (hidden, not an image, beside the splits): how many, and one of them."""

    count: NonNegativeInt
    example: Printable


class RawSize(Record):
    """Heights or widths of the raw images in pixels; ``total`` over the number of samples is their mean."""

    min: NonNegativeInt
    max: NonNegativeInt
    total: NonNegativeInt


class Split(Record):
    """One split; ``histogram`` counts samples or pixels per class (`TargetKind.counted`).

    ``raw_*`` tell what the images were before: bytes (with masks), heights and widths.
    """

    samples: NonNegativeInt
    shards: list[Shard]
    histogram: list[NonNegativeInt]
    ignored_pixels: NonNegativeInt = 0
    left_out: list[LeftOut] = Field(default=[])
    raw_bytes: NonNegativeInt = 0
    raw_height: RawSize | None = None
    raw_width: RawSize | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        held = sum(shard.samples for shard in self.shards)
        if held != self.samples:
            raise ValueError(f"a split of {self.samples} samples, its shards have {held}")
        if len({shard.name for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard occurs twice in a split")
        return self


class Manifest(Record):
    """What the shards beside it hold.

    ``mean`` and ``std`` are of the train split's pixels per channel, scaled to [0, 1]; std is at least `STD_FLOOR`.
    ``palette`` gives a colour (RGB, 0 to 255) per class, for segmentation.
    """

    version: Literal[1] = 1
    dataset: str
    task: str
    class_names: Annotated[list[str], Field(min_length=1)]
    palette: list[tuple[Byte, Byte, Byte]] | None = None
    size: tuple[PositiveInt, PositiveInt]
    channels: Literal[1, 3]
    filter: Filter
    geometry: Geometry
    encoding: Encoding
    mean: list[Annotated[float, Field(ge=0, le=1)]]
    std: list[Annotated[float, Field(gt=0, le=1)]]
    splits: dict[str, Split]
    fold: int | None = Field(default=None, exclude=True)
    """Of a view (`of_fold`): the fold that is val."""
    source_fingerprint: str
    location: str | None = None
    """Where the shards lie (an fsspec URL) when they are not beside this manifest."""
    passed_over: dict[str, PassedOver] | None = None
    """Raw files that no sample was expected of, by reason; None where nobody counted them."""
    findings: Findings | None = None

    @field_validator("task")
    @classmethod
    def _known(cls, task: str) -> str:
        if task not in TARGETS:
            raise ValueError(
                f"task: got {task!r}{did_you_mean(task, TARGETS)}, allowed: {', '.join(TARGETS)}"
            )
        return task

    @field_validator("location")
    @classmethod
    def _is_allowed(cls, location: str | None) -> str | None:
        return None if location is None else check_location(location)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"mean and std of {len(self.mean)} and {len(self.std)} channels, not {self.channels}"
            )
        if self.palette is not None and len(self.palette) != self.num_classes:
            raise ValueError(f"{len(self.palette)} colours for {self.num_classes} classes")
        for name, split in self.splits.items():
            self._check_histogram(name, split)
        return self

    def _check_histogram(self, name: str, split: Split) -> None:
        if len(split.histogram) != self.num_classes:
            raise ValueError(f"{name}: counts of {len(split.histogram)} classes, not of {self.num_classes}")
        total = split.samples * (math.prod(self.size) if self.target.spatial else 1)
        counted = sum(split.histogram) + split.ignored_pixels
        if counted != total if self.target.exclusive else max(split.histogram) > total:
            raise ValueError(f"{name}: {counted} {self.target.counted} counted, there are {total}")

    @property
    def target(self) -> TargetKind:
        """Return the kind of target that its samples have."""
        return TARGETS[self.task]

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """Return the split called ``name``.

        Raises:
            UserError: there is no such split, or it is empty.
        """
        if name not in self.splits or self.splits[name].samples == 0:
            raise UserError(
                f"{self.dataset}: no samples in split {name!r}, prepared splits: {', '.join(self.splits)}"
            )
        return self.splits[name]

    def check_trainable(self) -> None:
        """Refuse data that a network cannot be trained or validated on.

        Raises:
            UserError: train or val has no sample, or no target of any class.
        """
        for name in ("train", "val"):
            if not any(self.split(name).histogram):
                raise UserError(
                    f"{self.dataset}: {name} has no {self.target.counted} of any class ({_few(self.class_names)}): "
                    f"every target is ignored; check the masks, and datasets.{self.dataset}.options"
                )

    def warnings(self) -> list[str]:
        """Return what makes a training on this data, or its metrics, mean less than they seem to: a line each.

        To be shown when the data is prepared, before a training, and in the report.
        """
        lines = []
        for name, split in self.splits.items():
            missing = [self.class_names[i] for i, count in enumerate(split.histogram) if count == 0]
            ignored = split.ignored_pixels / (split.samples * math.prod(self.size)) if split.samples else 0
            if len(missing) == self.num_classes:
                lines.append(f"{name}: no {self.target.counted} of any class")
            elif missing:
                lines.append(f"{name}: no {self.target.counted} of {_few(missing)}")
            if missing and ignored:
                lines.append(f"{name}: {ignored:.1%} of the pixels are ignored (their mask says {IGNORE})")
        return lines + list(self.findings.leaks() if self.findings else ())

    def timm_info(self) -> str:
        """Return the content of `INFO_NAME`: the splits with their shards and how many samples each has."""
        splits = {
            name: {
                "name": name,
                "filenames": [shard.name for shard in split.shards],
                "shard_lengths": [shard.samples for shard in split.shards],
                "num_samples": split.samples,
            }
            for name, split in self.splits.items()
        }
        return json.dumps({"splits": splits}, indent=2) + "\n"

    def notes(self) -> Iterator[str]:
        """Yield what else is worth knowing of the data: repeated and tiny images, classes of very different size."""
        if self.findings:
            yield from self.findings.notes()
        counts = self.splits["train"].histogram if "train" in self.splits else []
        present = [i for i, count in enumerate(counts) if count]
        if present:
            least, most = min(present, key=counts.__getitem__), max(present, key=counts.__getitem__)
            if counts[most] >= IMBALANCE * counts[least]:
                yield (
                    f"class {printable(self.class_names[most])} has {counts[most] / counts[least]:,.0f} times the "
                    f"{self.target.counted} of {printable(self.class_names[least])}"
                )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the shards in ``folder``, and check cheaply that every shard is there in full length.

    Raises:
        UserError: no manifest, one that contradicts itself, or a shard missing or of another length.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UserError(f"{folder}: no {FILE_NAME}, so the shards are not whole; run `uv run dvc repro`")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])
        raise UserError(
            f"{path}: not a manifest of this version ({printable(what)}); delete {folder} and run `uv run dvc repro`"
        ) from None
    for split in manifest.splits.values() if manifest.location is None else ():
        for shard in split.shards:
            file = folder / shard.name
            size = file.stat().st_size if file.exists() else 0
            if size != shard.bytes:
                raise UserError(
                    f"{file}: {size} bytes, the manifest says {shard.bytes}; delete {folder} and "
                    "run `uv run dvc repro`"
                )
    return manifest


def _few(names: list[str]) -> str:
    """Name the first of ``names``, and say how many there are."""
    shown = ", ".join(printable(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more classes"
