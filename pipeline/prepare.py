"""Raw files to shards: list, cut into units, convert on an engine, sum up, and move the whole into place.

Unfinished work lies in a folder named after the configuration. A run that was cut off anywhere is taken up
there: units whose shards are whole are checked and kept. The finished folder is renamed into its place, so
shards that can be seen are complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.convert import Result, Unit, convert
from pipeline.datasets import read
from pipeline.datasets.files import list_files
from pipeline.datasets.listing import Listing, Sample, Source, shuffled
from pipeline.engines import ENGINES
from pipeline.errors import UserError
from pipeline.fingerprint import Fingerprint, fingerprint, read_fingerprint
from pipeline.manifest import FILE_NAME, LeftOut, Manifest, RawSize, Split
from pipeline.params import DatasetParams, Params, configuration_hash
from pipeline.paths import fingerprint_file, shards_folder, work_folder

FORMAT = 1
"""Raise it when the same raw files and params come to give other bytes."""
SMALL = 8_000_000
"""Raw bytes below which starting worker processes takes longer than the work."""


def prepare(data: str, params: Params) -> list[Manifest]:
    """Write the shards of dataset ``data`` in every size; returns their manifests.

    Raises:
        UserError: raw files that do not fit, too many corrupt ones, no space, or another run at work.
    """
    dataset = params.named(data)
    source_print = read_fingerprint(fingerprint_file(data))
    files = list_files(params.root(data))
    if fingerprint(data, files) != source_print:
        raise UserError(f"{data}: raw files changed since they were listed; run `uv run dvc repro`")
    if any(min(size) < 1 for size in dataset.sizes) or len(set(dataset.sizes)) < len(dataset.sizes):
        raise UserError(f"datasets.{data}.sizes: a size occurs twice; name each once")
    identity = dataset.model_dump(mode="json", exclude={"max_corrupt", "source"})
    work = work_folder("prepare", configuration_hash(FORMAT, data, identity, source_print.digest))
    with _only_one(work), _full_disk_explained(work):
        source = Source(params.root(data), files, work / "scratch", dataset.options)
        listing = with_val_split(read(dataset.reader, source), dataset.val_fraction, data)
        units = cut_into_units(listing, dataset, work)
        results = _convert_all(units, listing, dataset, params, data, source_print.bytes < SMALL)
        manifests = [
            summarise(data, dataset, listing, source_print, results, i) for i in range(len(dataset.sizes))
        ]
        for manifest, size in zip(manifests, dataset.sizes, strict=True):
            folder = work / "shards" / f"{size[0]}x{size[1]}"
            (folder / FILE_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _move_into_place(work / "shards", shards_folder(data, dataset.sizes[0]).parent)
        shutil.rmtree(work)
    return manifests


def with_val_split(listing: Listing, fraction: float, data: str) -> Listing:
    """``listing`` with a ``val`` split.

    Where the raw files have none, ``fraction`` of each class of train is cut off by a fixed choice; at 0 the
    split called ``test`` is named ``val``.

    Raises:
        UserError: there is no held-out split and ``fraction`` is 0.
    """
    splits = {name: samples for name, samples in listing.splits.items() if samples}
    left_out = dict(listing.left_out)
    if "val" not in splits:
        if fraction > 0:
            splits["train"], splits["val"] = _cut_off(splits["train"], fraction)
        elif "test" in splits:
            splits["val"] = splits.pop("test")
            left_out["val"] = left_out.pop("test", [])
        else:
            raise UserError(
                f"{data}: no val or test split among the raw files; "
                f"set datasets.{data}.val_fraction, e.g. 0.2"
            )
    order = [name for name in ("train", "val", "test") if name in splits]
    return Listing(listing.class_names, {name: splits[name] for name in order}, listing.labels, left_out)


def _cut_off(samples: list[Sample], fraction: float) -> tuple[list[Sample], list[Sample]]:
    """Split ``samples`` per class: the first ``fraction`` in a fixed order (at least one) is val."""
    by_class: dict[object, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.target if isinstance(sample.target, int) else None, []).append(sample)
    chosen: set[str] = set()
    for group in by_class.values():
        count = max(1, round(fraction * len(group)))
        chosen.update(sample.name for sample in shuffled(group, "val")[:count])
    train = [sample for sample in samples if sample.name not in chosen]
    return train, [sample for sample in samples if sample.name in chosen]


def cut_into_units(listing: Listing, dataset: DatasetParams, work: Path) -> list[Unit]:
    """One unit per shard. Train is in a fixed mixed order, so that classes spread over its shards."""
    units = []
    for split, in_order in listing.splits.items():
        samples = shuffled(in_order, "train") if split == "train" else in_order
        for index, key in enumerate(range(0, len(samples), dataset.samples_per_shard)):
            part = tuple(samples[key : key + dataset.samples_per_shard])
            units.append(
                Unit(
                    split=split,
                    index=index,
                    key=key,
                    samples=part,
                    classes=len(listing.class_names),
                    labels=listing.labels,
                    params=dataset,
                    folder=str(work),
                )
            )
    return units


def _convert_all(
    units: list[Unit], listing: Listing, dataset: DatasetParams, params: Params, data: str, small: bool
) -> list[Result]:
    """Run all units, showing progress; results in the order of the units."""
    work = Path(units[0].folder)
    for folder in [work / "records", *(work / "shards" / f"{h}x{w}" for h, w in dataset.sizes)]:
        folder.mkdir(parents=True, exist_ok=True)
        for litter in folder.glob("*.partial"):
            litter.unlink()
    left_out = [item for items in listing.left_out.values() for item in items]
    _check_corrupt(left_out, dataset.max_corrupt, data)
    workers = 1 if small else params.machine.workers
    sizes = {(unit.split, unit.index): len(unit.samples) for unit in units}
    results: dict[tuple[str, int], Result] = {}
    with tqdm(total=sum(sizes.values()), desc=f"prepare {data}", unit="image", smoothing=0.1) as bar:
        for result in ENGINES[params.machine.engine](convert, units, workers):
            assert isinstance(result, Result)
            place = (result.split, result.index)
            results[place] = result
            left_out += result.left_out
            _check_corrupt(left_out, dataset.max_corrupt, data)
            bar.update(sizes[place])
    return [results[place] for place in sizes]


def _check_corrupt(left_out: list[LeftOut], limit: int, data: str) -> None:
    if len(left_out) > limit:
        first = left_out[0]
        raise UserError(
            f"{data}: {len(left_out)} corrupt sample(s), first {first.name}: {first.reason}; "
            f"mend it or allow more than {limit} with datasets.{data}.max_corrupt"
        )


def summarise(
    data: str,
    dataset: DatasetParams,
    listing: Listing,
    source: Fingerprint,
    results: list[Result],
    i: int,
) -> Manifest:
    """The manifest of size ``i`` of ``dataset``."""
    splits = {}
    for split in listing.splits:
        mine = [result for result in results if result.split == split]
        left_out = listing.left_out.get(split, []) + [item for result in mine for item in result.left_out]
        samples = sum(result.parts[i].shard.samples for result in mine)
        if samples == 0:
            raise UserError(
                f"{data}: {split}: every sample is corrupt, first {left_out[0].name}: {left_out[0].reason}"
            )
        splits[split] = Split(
            samples=samples,
            shards=[result.parts[i].shard for result in mine],
            histogram=np.sum([result.parts[i].histogram for result in mine], axis=0).tolist(),
            ignored_pixels=sum(result.parts[i].ignored_pixels for result in mine),
            left_out=left_out,
            raw_bytes=sum(result.raw_bytes for result in mine),
            raw_height=_raw_size([result.raw_heights for result in mine if result.raw_bytes]),
            raw_width=_raw_size([result.raw_widths for result in mine if result.raw_bytes]),
        )
    train = [result.parts[i] for result in results if result.split == "train"]
    height, width = dataset.sizes[i]
    mean, std = _mean_and_std(
        np.sum([part.sums for part in train], axis=0),
        np.sum([part.squares for part in train], axis=0),
        splits["train"].samples * height * width,
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
    )


def _raw_size(parts: list[list[int]]) -> RawSize:
    """Sum up the ranges of units. The mean is over samples, so it needs their number: kept as a sum."""
    if not parts:
        return RawSize(min=0, max=0, total=0)
    least, total, greatest = zip(*parts, strict=True)
    return RawSize(min=min(least), max=max(greatest), total=sum(total))


def _mean_and_std(
    sums: Iterable[int], squares: Iterable[int], pixels: int
) -> tuple[list[float], list[float]]:
    """Per channel, scaled to [0, 1]; the standard deviation is the population's. Exact sums, rounded once."""
    pixels = max(pixels, 1)
    mean, std = [], []
    for total, square in zip(sums, squares, strict=True):
        centre = int(total) / pixels
        mean.append(round(centre / 255, 6))
        std.append(round(max(int(square) / pixels - centre * centre, 0.0) ** 0.5 / 255, 6))
    return mean, std


@contextmanager
def _only_one(work: Path) -> Iterator[None]:
    """Hold the work folder's lock; the system frees it however this process ends."""
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another prepare is at work on the same data ({work}); wait for it or stop it"
            ) from None
        work.mkdir(exist_ok=True)
        yield


@contextmanager
def _full_disk_explained(work: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"no space left on the disk of {work}; what is finished is kept: free some and run again"
        ) from None


def _move_into_place(whole: Path, target: Path) -> None:
    """Rename ``whole`` to ``target``; earlier shards there are moved aside first and deleted last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = whole.with_name("replaced")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        _rename(target, aside)
    _rename(whole, target)


def _rename(source: Path, target: Path) -> None:
    """Rename, also onto another file system: there the copy gets its name when it is whole."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
        shutil.copytree(source, partial)
        partial.rename(target)
        shutil.rmtree(source)
