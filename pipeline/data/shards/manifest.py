"""``manifest.json``: what a folder of shards holds. It is written last, so a folder that has one is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator

from pipeline.core.errors import UserError, did_you_mean, printable
from pipeline.data.shards.targets import TARGETS, TargetKind

FILE_NAME = "manifest.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shard(_Record):
    """One tar: plain WebDataset, readable without this project."""

    name: str
    samples: int
    bytes: int
    sha256: str


Printable = Annotated[str, BeforeValidator(printable)]


class LeftOut(_Record):
    """A raw file that is in no shard, and why."""

    name: Printable
    reason: Printable


class PassedOver(_Record):
    """Raw files that no sample was expected of (hidden, not an image, beside the splits): how many, and one of them."""

    count: int
    example: Printable


class RawSize(_Record):
    """Heights or widths of the raw images in pixels; ``total`` over the number of samples is their mean."""

    min: int
    max: int
    total: int


class Split(_Record):
    """One split; ``histogram`` counts samples or pixels per class (`TargetKind.counted`).

    ``raw_*`` tell what the images were before: bytes (with masks), heights and widths.
    """

    samples: int
    shards: list[Shard]
    histogram: list[int]
    ignored_pixels: int = 0
    left_out: list[LeftOut] = []
    raw_bytes: int = 0
    raw_height: RawSize | None = None
    raw_width: RawSize | None = None


class Manifest(_Record):
    """What the shards beside it hold.

    ``mean`` and ``std`` are of the train split's pixels per channel, scaled to [0, 1].
    ``palette`` gives a colour (RGB, 0 to 255) per class, for segmentation.
    """

    version: Literal[1] = 1
    dataset: str
    task: str
    class_names: list[str]
    palette: list[tuple[int, int, int]] | None = None
    size: tuple[int, int]
    channels: int
    filter: str
    geometry: str
    encoding: str
    mean: list[float]
    std: list[float]
    splits: dict[str, Split]
    source_fingerprint: str
    location: str | None = None
    """Where the shards lie (an fsspec URL) when they are not beside this manifest."""

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
    def _runs_nothing(cls, location: str | None) -> str | None:
        # Stock webdataset takes such a location for a shell command.
        if location is not None and location.lstrip().startswith("pipe:"):
            raise ValueError("location: a pipe: is never run, allowed: an fsspec URL")
        return location

    @property
    def target(self) -> TargetKind:
        """Return the kind of target that its samples have."""
        return TARGETS[self.task]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """The split called ``name``.

        Raises:
            UserError: there is no such split, or it is empty.
        """
        if name not in self.splits or self.splits[name].samples == 0:
            raise UserError(
                f"{self.dataset}: no samples in split {name!r}, prepared splits: {', '.join(self.splits)}"
            )
        return self.splits[name]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the shards in ``folder``, after a cheap check that every shard is there in full length.

    Raises:
        UserError: no manifest, an unreadable one, or a shard missing or of another length.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UserError(f"{folder}: no {FILE_NAME}, so the shards are not whole; run `uv run dvc repro`")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: not a manifest of this version ({error.errors()[0]['msg']})") from None
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
