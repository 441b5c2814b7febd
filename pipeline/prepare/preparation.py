"""Raw files to shards: list, cut into units, convert on an engine, sum up, and move the whole into place.

Unfinished work lies in a folder named after the configuration. A run that was cut off anywhere is taken up
there: units whose shards are whole are checked and kept, and so are those of the shards in place whose raw files
are as they were. The finished folder is renamed into its place, so shards that can be seen are complete. In an
object store, which has no rename, the manifest plays that part: it is removed first and written last.
"""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pipeline.core.atomic import PARTIAL, explain_disk_errors, move_into_place
from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash
from pipeline.core.locks import exclusive_lock
from pipeline.core.paths import work_folder
from pipeline.core.storage import Storage, is_remote
from pipeline.data.raw.blobs import list_files
from pipeline.data.raw.fingerprint import fingerprint, fingerprint_file, read_fingerprint
from pipeline.data.raw.listing import KEYS, Listing, Sample, Source
from pipeline.data.raw.splits import arranged
from pipeline.data.readers import read
from pipeline.data.shards.layout import shards_folder, size_name
from pipeline.data.shards.manifest import FILE_NAME, INFO_NAME, LeftOut, Manifest
from pipeline.params import DatasetParams, Params
from pipeline.prepare.carry_over import identities, keep, take_over
from pipeline.prepare.convert import Result, Unit, convert
from pipeline.prepare.executors import ENGINES
from pipeline.prepare.summary import summarise

SMALL = 8_000_000
"""Raw bytes below which starting worker processes takes longer than the work."""


@dataclass(frozen=True)
class Places:
    """Where one preparation writes: the work folder here, shards and records here or in an object store.

    ``target`` is where the shards, or the manifests that tell where they are, will be seen.
    """

    work: Path
    shards: Storage
    records: Storage
    target: Path

    @property
    def lock(self) -> Path:
        """Of the work folder, which copies of the repository share."""
        return self.work.with_suffix(".lock")

    @property
    def output_lock(self) -> Path:
        """Of the output: two configurations may write to one."""
        work = str(self.work / "shards")
        output = str(self.target.resolve()) if self.shards.location == work else self.shards.location
        return self.work.with_name(f"{configuration_hash(output)}.lock")

    @classmethod
    def of(cls, data: str, params: Params, digest: str) -> Places:
        identity = params.named(data).model_dump(mode="json", exclude={"max_corrupt", "source"})
        name = configuration_hash(data, identity, digest)
        work, target = work_folder("prepare", name), shards_folder(data, params.named(data).sizes[0]).parent
        if params.machine.output is None:
            return cls(work, Storage(str(work / "shards")), Storage(str(work / "records")), target)
        shards = f"{params.machine.output.rstrip('/')}/{data}"
        return cls(work, Storage(shards), Storage(f"{shards}/.records-{name}"), target)


def prepare(data: str, params: Params) -> list[Manifest]:
    """Write the shards of dataset ``data`` in every size; returns their manifests.

    Raises:
        UserError: raw files that do not fit, too many corrupt ones, no space, or another run at work.
    """
    dataset = params.named(data)
    source_print = read_fingerprint(fingerprint_file(data))
    files = list_files(params.root(data))
    if fingerprint(data, files).digest != source_print.digest:
        raise UserError(f"{data}: raw files changed since they were listed; run `uv run dvc repro`")
    if len(set(dataset.sizes)) < len(dataset.sizes):
        raise UserError(f"datasets.{data}.sizes: a size occurs twice in {dataset.sizes}; name each once")
    places = Places.of(data, params, source_print.digest)
    kept = work_folder("prepare", f"{data}.json")
    with (
        exclusive_lock(places.lock, wait=True),
        exclusive_lock(places.output_lock),
        explain_disk_errors(places.work),
    ):
        places.work.mkdir(exist_ok=True)
        source = Source(params.root(data), files, places.work / "scratch", dataset.options)
        listing = arranged(read(dataset.reader, source), dataset, data)
        _clear(places, dataset)
        units = cut_into_units(listing, dataset, places)
        take_over(units, kept, places.target)
        workers = 1 if source_print.bytes < SMALL else params.machine.workers
        results = _convert_all(units, listing, dataset, params.machine.engine, workers, data)
        manifests = [
            summarise(data, dataset, listing, source_print, results, i) for i in range(len(dataset.sizes))
        ]
        _write_manifests(places, manifests)
        keep(results, places.work, kept)
        _move_into_place(places)
    return manifests


def _clear(places: Places, dataset: DatasetParams) -> None:
    """Remove what a killed run left half-written, and in an object store the manifests of earlier shards."""
    for litter in places.work.rglob(f"*{PARTIAL}"):
        litter.unlink()
    for size in dataset.sizes:
        places.shards.remove(f"{size_name(size)}/{FILE_NAME}")


def _write_manifests(places: Places, manifests: list[Manifest]) -> None:
    """Write the manifests, last of all, where nothing lies but their shards."""
    shards = places.shards
    for manifest in manifests:
        folder = size_name(manifest.size)
        text = manifest.model_dump_json(indent=2) + "\n"
        mine = {f"{folder}/{shard.name}" for split in manifest.splits.values() for shard in split.shards}
        for name in shards.names(folder):
            if name not in mine:
                shards.remove(name)
        shards.write(f"{folder}/{INFO_NAME}", manifest.timm_info().encode())
        shards.write(f"{folder}/{FILE_NAME}", text.encode())
        if is_remote(shards.location):  # here stays a manifest that tells where the shards are
            here = manifest.model_copy(update={"location": shards.place(folder)})
            local = Storage(str(places.work / "shards"))
            local.write(f"{folder}/{FILE_NAME}", (here.model_dump_json(indent=2) + "\n").encode())


def _move_into_place(places: Places) -> None:
    """Let the finished shards be seen, and leave no work behind."""
    move_into_place(places.work / "shards", places.target)
    for name in places.records.names():
        places.records.remove(name)
    shutil.rmtree(places.work)


def cut_into_units(listing: Listing, dataset: DatasetParams, places: Places) -> list[Unit]:
    """Return one unit per shard; the samples of each split are in the order of their keys."""
    units = []
    for split, samples in listing.splits.items():
        parts = cut_by_key(samples, dataset.samples_per_shard)
        names = identities(listing, dataset, split, parts)
        for index, (part, identity) in enumerate(zip(parts, names, strict=True)):
            units.append(
                Unit(
                    split=split,
                    index=index,
                    identity=identity,
                    samples=part,
                    task=listing.task,
                    classes=len(listing.class_names),
                    labels=listing.labels,
                    params=dataset,
                    shards=places.shards,
                    records=places.records,
                )
            )
    return units


def cut_by_key(
    samples: Sequence[Sample], most: int, first: int = 0, last: int = KEYS
) -> list[tuple[Sample, ...]]:
    """Return ``samples``, sorted by key, in parts of at most ``most``: the range of keys is halved until each fits.

    So a sample more or less changes the part that it falls into (or cuts it in two, or joins it with its
    neighbour) and no other.
    """
    if len(samples) <= most:
        return [tuple(samples)] if samples else []
    middle = (first + last) // 2
    cut = bisect_left(samples, middle, key=lambda sample: sample.key)
    return [*cut_by_key(samples[:cut], most, first, middle), *cut_by_key(samples[cut:], most, middle, last)]


def _convert_all(
    units: list[Unit], listing: Listing, dataset: DatasetParams, engine: str, workers: int | None, data: str
) -> list[Result]:
    """Run all units, showing progress; results in the order of the units."""
    left_out = [item for items in listing.left_out.values() for item in items]
    _check_corrupt(left_out, dataset.max_corrupt, data)
    samples = {(unit.split, unit.index): len(unit.samples) for unit in units}
    results: dict[tuple[str, int], Result] = {}
    with tqdm(total=sum(samples.values()), desc=f"prepare {data}", unit="image", smoothing=0.1) as bar:
        for result in ENGINES[engine](convert, units, workers):
            place = (result.split, result.index)
            results[place] = result
            left_out += result.left_out
            _check_corrupt(left_out, dataset.max_corrupt, data)
            bar.update(samples[place])
    return [results[place] for place in samples]


def _check_corrupt(left_out: list[LeftOut], limit: int, data: str) -> None:
    if len(left_out) > limit:
        first = left_out[0]
        raise UserError(
            f"{data}: {len(left_out)} corrupt sample(s), first {first.name}: {first.reason}; "
            f"mend it or allow more than {limit} with datasets.{data}.max_corrupt"
        )
