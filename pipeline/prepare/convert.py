"""The work unit of preparing: the samples of one shard in, that shard in every size out.

A unit is a pure function of its raw files: whoever runs it (this process, another one, another machine),
however often, the bytes are the same. A unit that finds its shards whole does nothing.
"""

from __future__ import annotations

import hashlib
import warnings
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.core.storage import Storage
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import read_mask, resize_mask
from pipeline.data.imaging.resize import Resizer
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.listing import Labels, Sample
from pipeline.data.shards.encoding import decode_image, encode_image, members
from pipeline.data.shards.layout import shard_name, size_name
from pipeline.data.shards.manifest import LeftOut, Shard
from pipeline.data.shards.targets import TARGETS, Target
from pipeline.data.shards.writer import ShardWriter
from pipeline.params import DatasetParams

Pixels = NDArray[np.uint8]


NO_HASH = "0" * 16
"""Stands for a sample that was left out."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One shard's work. ``identity`` is a hash of all that the shard's bytes come from."""

    split: str
    index: int
    identity: str
    samples: tuple[Sample, ...]
    task: str
    classes: int
    labels: Labels | None
    params: DatasetParams
    shards: Storage
    records: Storage

    @property
    def record(self) -> str:
        """Under which name the result is kept while the dataset is unfinished."""
        return f"{self.split}-{self.index:06d}.json"

    def shard(self, size: tuple[int, int]) -> str:
        return f"{size_name(size)}/{shard_name(self.split, self.index)}"

    def write(self, result: Result) -> None:
        """Keep the result."""
        self.records.write(self.record, result.model_dump_json().encode())


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(_Record):
    """One size of a unit: its shard and counts that add up over units.

    ``sums`` and ``squares`` are of the pixel values 0..255 and their squares, per channel. ``images`` and, for
    segmentation, ``masks`` have a hash of 16 hexadecimal digits per sample of the unit, `NO_HASH` where it was left
    out. ``small`` counts samples less than half as high or as wide as the size.
    """

    shard: Shard
    histogram: list[int]
    ignored_pixels: int
    sums: list[int]
    squares: list[int]
    images: str
    masks: str
    small: int


class Result(_Record):
    """What became of a unit: a part per size, and what the raw images were like."""

    split: str
    index: int
    identity: str
    parts: list[Part]
    left_out: list[LeftOut]
    raw_bytes: int
    raw_heights: list[int]
    """Least, sum and greatest, in pixels, over the samples kept; likewise the widths."""
    raw_widths: list[int]

    def of(self, unit: Unit) -> Result:
        """Return the same, with the place that ``unit`` has."""
        name = shard_name(unit.split, unit.index)
        parts = [
            part.model_copy(update={"shard": part.shard.model_copy(update={"name": name})})
            for part in self.parts
        ]
        return self.model_copy(update={"index": unit.index, "parts": parts})


def convert(unit: Unit) -> Result:
    """Decode each sample once, write every size; samples that are corrupt are left out and named.

    The shards appear under their names only when they are whole; the record comes last.
    """
    done = _finished(unit)
    if done is not None:
        return done
    cv2.setNumThreads(1)  # parallel over units, not inside one
    params = unit.params
    tally = _Tally(unit)
    resizer = Resizer.of(params)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter(
            "ignore", UserWarning
        )  # Pillow's, on odd metadata: it would tear up the progress bar
        paths = [stack.enter_context(unit.shards.writing(unit.shard(size))) for size in params.sizes]
        writers = [stack.enter_context(ShardWriter(path)) for path in paths]
        for sample in unit.samples:
            try:
                pixels, mask = _read(sample, unit.labels, resizer, params.sizes, tally)
            except (CorruptImageError, OSError) as error:
                tally.leave_out(sample, error)
                continue
            for i, (size, writer) in enumerate(zip(params.sizes, writers, strict=True)):
                image = resizer.resize(pixels, size)
                data = encode_image(image, params.encoding, params.quality)
                if mask is None:
                    assert not isinstance(sample.target, Blob)
                    target: Target = sample.target
                else:
                    target = resize_mask(mask, size, params.geometry)
                tally.add_target(i, target)
                tally.add_hashes(i, image, target)
                tally.add_pixels(i, decode_image(data, params.encoding, params.channels, image))
                writer.add(sample.key, members(data, target, tally.kind, params.encoding))
    name = shard_name(unit.split, unit.index)
    result = tally.result([writer.shard(name) for writer in writers])
    unit.write(result)
    return result


def _read(
    sample: Sample, labels: Labels | None, resizer: Resizer, sizes: tuple[tuple[int, int], ...], tally: _Tally
) -> tuple[Pixels, Pixels | None]:
    """Return the decoded image and, for segmentation, its mask in train ids at the same size."""
    image = sample.image.read()
    if isinstance(image, bytes):
        pixels, size = resizer.decode(image, sizes)
        raw_bytes = len(image)
    else:
        pixels, size, raw_bytes = resizer.convert(image), (image.shape[0], image.shape[1]), image.nbytes
    mask = None
    if labels is not None:
        assert isinstance(sample.target, Blob)
        data = sample.target.read()
        raw_bytes += len(data)
        mask = read_mask(data, labels)
        if mask.shape != size:
            raise CorruptImageError(
                f"mask is {mask.shape[1]}x{mask.shape[0]} pixels, its image {size[1]}x{size[0]}"
            )
    tally.add_raw(raw_bytes, size)
    return pixels, mask


class _Tally:
    """Counts while a unit is converted."""

    def __init__(self, unit: Unit) -> None:
        sizes, channels = len(unit.params.sizes), unit.params.channels
        self.unit = unit
        self.kind = TARGETS[unit.task]
        self.histograms = np.zeros((sizes, unit.classes), np.int64)
        self.ignored = [0] * sizes
        self.sums = np.zeros((sizes, channels), np.int64)
        self.squares = np.zeros((sizes, channels), np.int64)
        self.images: list[list[str]] = [[] for _ in range(sizes)]
        self.masks: list[list[str]] = [[] for _ in range(sizes)]
        self.left_out: list[LeftOut] = []
        self.raw_bytes = 0
        self.heights: list[int] = []
        self.widths: list[int] = []

    def add_raw(self, raw_bytes: int, size: tuple[int, ...]) -> None:
        self.raw_bytes += raw_bytes
        self.heights.append(size[0])
        self.widths.append(size[1])

    def leave_out(self, sample: Sample, error: Exception) -> None:
        self.left_out.append(LeftOut(name=sample.name, reason=str(error)))
        for hashes in (*self.images, *(self.masks if self.kind.spatial else ())):
            hashes.append(NO_HASH)

    def add_hashes(self, i: int, image: Pixels, target: Target) -> None:
        self.images[i].append(_hash(image))
        if isinstance(target, np.ndarray):
            self.masks[i].append(_hash(target))

    def add_target(self, i: int, target: Target) -> None:
        counts, ignored = self.kind.histogram(target, self.unit.classes)
        self.histograms[i] += counts
        self.ignored[i] += ignored

    def add_pixels(self, i: int, image: Pixels) -> None:
        channels = image.shape[-1]
        squares = cv2.multiply(image, image, dtype=cv2.CV_16U)  # 255 * 255 fits
        self.sums[i] += np.asarray(cv2.sumElems(image)[:channels], np.int64)
        self.squares[i] += np.asarray(cv2.sumElems(squares)[:channels], np.int64)

    def result(self, shards: list[Shard]) -> Result:
        parts = [
            Part(
                shard=shard,
                histogram=self.histograms[i].tolist(),
                ignored_pixels=self.ignored[i],
                sums=self.sums[i].tolist(),
                squares=self.squares[i].tolist(),
                images="".join(self.images[i]),
                masks="".join(self.masks[i]),
                small=self._small(self.unit.params.sizes[i]),
            )
            for i, shard in enumerate(shards)
        ]
        return Result(
            split=self.unit.split,
            index=self.unit.index,
            identity=self.unit.identity,
            parts=parts,
            left_out=self.left_out,
            raw_bytes=self.raw_bytes,
            raw_heights=_range_of(self.heights),
            raw_widths=_range_of(self.widths),
        )

    def _small(self, size: tuple[int, int]) -> int:
        raw = zip(self.heights, self.widths, strict=True)
        return sum(2 * height < size[0] or 2 * width < size[1] for height, width in raw)


def _hash(pixels: Pixels) -> str:
    # Of some million images two share 8 bytes once in ten million data sets.
    return hashlib.sha256(pixels.data).hexdigest()[: len(NO_HASH)]


def _range_of(values: list[int]) -> list[int]:
    return [min(values), sum(values), max(values)] if values else [0, 0, 0]


def _finished(unit: Unit) -> Result | None:
    """Return the result of an earlier run whose shards still hash to what was written, or None."""
    record = unit.records.read(unit.record)
    if record is None:
        return None
    try:
        result = Result.model_validate_json(record)
    except ValidationError:
        return None
    whole = result.identity == unit.identity and all(
        unit.shards.holds(unit.shard(size), part.shard.bytes, part.shard.sha256)
        for size, part in zip(unit.params.sizes, result.parts, strict=True)
    )
    return result if whole else None
