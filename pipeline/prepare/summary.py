"""The manifest: what the results of all units add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.core.errors import UserError, printable
from pipeline.data.raw.fingerprint import Fingerprint
from pipeline.data.raw.listing import Listing
from pipeline.data.shards.folds import FOLD
from pipeline.data.shards.manifest import STD_FLOOR, Manifest, RawSize, Split
from pipeline.params import DatasetParams
from pipeline.prepare.convert import Result
from pipeline.prepare.findings import find

SHOWN_CLASSES = 5
"""Classes named at the end of `prepare`."""


def summarise(
    data: str,
    dataset: DatasetParams,
    listing: Listing,
    source: Fingerprint,
    results: list[Result],
    i: int,
) -> Manifest:
    """Return the manifest of size ``i`` of ``dataset``."""
    splits = {split: _summarise_split(data, split, listing, results, i) for split in listing.splits}
    learned = [name for name in splits if name == "train" or name.startswith(FOLD)]
    train = [result.parts[i] for result in results if result.split in learned]
    height, width = dataset.sizes[i]
    mean, std = _mean_and_std(
        np.sum([part.sums for part in train], axis=0),
        np.sum([part.squares for part in train], axis=0),
        sum(splits[name].samples for name in learned) * height * width,
    )
    return Manifest(
        dataset=data,
        task=listing.task,
        class_names=listing.class_names,
        palette=list(listing.labels.palette) if listing.labels else None,
        size=(height, width),
        channels=dataset.channels,
        filter=dataset.filter,
        geometry=dataset.geometry,
        encoding=dataset.encoding,
        mean=mean,
        std=std,
        splits=splits,
        source_fingerprint=source.digest,
        passed_over=listing.passed_over,
        findings=find(listing, results, i),
    )


def _summarise_split(data: str, split: str, listing: Listing, results: list[Result], i: int) -> Split:
    """Return one split of size ``i``.

    Raises:
        UserError: all of its samples were left out.
    """
    mine = [result for result in results if result.split == split]
    left_out = listing.left_out.get(split, []) + [item for result in mine for item in result.left_out]
    samples = sum(result.parts[i].shard.samples for result in mine)
    if samples == 0:
        raise UserError(
            f"{data}: {split}: every sample is corrupt, first {left_out[0].name}: {left_out[0].reason}"
        )
    return Split(
        samples=samples,
        shards=[result.parts[i].shard for result in mine],
        histogram=np.sum([result.parts[i].histogram for result in mine], axis=0).tolist(),
        ignored_pixels=sum(result.parts[i].ignored_pixels for result in mine),
        left_out=left_out,
        raw_bytes=sum(result.raw_bytes for result in mine),
        raw_height=_raw_size([result.raw_heights for result in mine if result.raw_bytes]),
        raw_width=_raw_size([result.raw_widths for result in mine if result.raw_bytes]),
    )


def describe(manifest: Manifest) -> Iterator[str]:
    """Yield lines for the terminal: what was prepared, what was not taken, and what to know before training."""
    height, width = manifest.size
    splits = ", ".join(f"{name} {split.samples}" for name, split in manifest.splits.items())
    what = f"{manifest.dataset} {height}x{width}"
    names = ", ".join(printable(name) for name in manifest.class_names[:SHOWN_CLASSES])
    more = ", ..." if manifest.num_classes > SHOWN_CLASSES else ""
    yield f"{what}: {splits} samples; {manifest.num_classes} classes: {names}{more}"
    yield f"{what}: not taken: {', '.join(_not_taken(manifest)) or 'nothing'}"
    if notes := list(manifest.notes()):
        yield f"{what}: {'; '.join(notes)}"
    for warning in manifest.warnings():
        yield f"warning: {what}: {warning}"


def _not_taken(manifest: Manifest) -> Iterator[str]:
    left_out = [item for split in manifest.splits.values() for item in split.left_out]
    if left_out:
        yield f"{len(left_out)} left out ({left_out[0].name}: {left_out[0].reason})"
    for reason, item in (manifest.passed_over or {}).items():
        yield f"{item.count} {reason} ({item.example})"
    if manifest.passed_over is None:
        yield "files beside those of the official names, which are not counted"


def _raw_size(parts: list[list[int]]) -> RawSize:
    """Sum up the ranges of units. The mean is over samples, so it needs their number: kept as a sum."""
    if not parts:
        return RawSize(min=0, max=0, total=0)
    least, total, greatest = zip(*parts, strict=True)
    return RawSize(min=min(least), max=max(greatest), total=sum(total))


def _mean_and_std(
    sums: Iterable[int], squares: Iterable[int], pixels: int
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, scaled to [0, 1], the latter at least `STD_FLOOR`.

    The standard deviation is the population's. The sums are exact and rounded once.
    """
    pixels = max(pixels, 1)
    mean, std = [], []
    for total, square in zip(sums, squares, strict=True):
        centre = int(total) / pixels
        mean.append(round(centre / 255, 6))
        deviation = max(int(square) / pixels - centre * centre, 0.0) ** 0.5 / 255
        std.append(round(max(deviation, STD_FLOOR), 6))
    return mean, std
