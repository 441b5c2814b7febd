"""Finished shards that still hold: one more raw image makes the one shard anew that it falls into.

A unit's identity is a hash of all that its bytes come from. What became of each unit is kept in the work folder when
a preparation ends; the next one takes over the shards of the units whose identity occurs there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.core.atomic import atomic_file
from pipeline.core.hashing import configuration_hash
from pipeline.core.source_code import source_digest
from pipeline.core.storage import is_remote
from pipeline.data.raw.listing import Listing, Sample
from pipeline.data.readers import find_reader
from pipeline.data.shards.layout import size_name
from pipeline.params import DatasetParams
from pipeline.prepare.convert import Result, Unit, convert

LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "simplejpeg")
"""Packages that decide, with our own code, which bytes a unit becomes."""


_RESULTS = TypeAdapter(list[Result])


def identities(
    listing: Listing, dataset: DatasetParams, split: str, parts: Sequence[Sequence[Sample]]
) -> list[str]:
    """Return the identity of the unit of each part: of its samples (names, bytes, versions) and their treatment."""
    rest = configuration_hash(
        dataset.model_dump(
            mode="json", exclude={"folds", "max_corrupt", "samples_per_shard", "source", "val_fraction"}
        ),
        source_digest([convert.__module__, find_reader(dataset.reader).read.__module__], ("pipeline.data",)),
        [version(library) for library in LIBRARIES],
        len(listing.class_names),
        listing.labels and listing.labels.train_ids,
    )
    return [hashlib.sha256(f"{rest}{split}{part!r}".encode()).hexdigest() for part in parts]


def take_over(units: Sequence[Unit], kept: Path, finished: Path) -> None:
    """Let the units whose shards lie in the folder ``finished``, or in the store already, find them.

    Files are linked, not moved: what is in place stays whole until all is done. Whether they still hold what was
    written is for `convert` to see. A unit that left out a sample is done again: the sample may be mended.
    """
    results = {result.identity: result for result in _read(kept) if not result.left_out}
    for unit in units:
        result = results.get(unit.identity)
        if result is None:
            continue
        if is_remote(unit.shards.location):
            there = result.index == unit.index  # an object store cannot rename
        else:
            there = all(
                _link(finished / size_name(size) / part.shard.name, Path(unit.shards.place(unit.shard(size))))
                for size, part in zip(unit.params.sizes, result.parts, strict=True)
            )
        if there:
            unit.write(result.of(unit))


def keep(results: list[Result], work: Path, kept: Path) -> None:
    """Remember ``results`` in the file ``kept`` for the next `take_over`."""
    with atomic_file(kept, work) as partial:
        partial.write_bytes(_RESULTS.dump_json(results))


def _read(kept: Path) -> list[Result]:
    try:
        return _RESULTS.validate_json(kept.read_bytes())
    except (FileNotFoundError, ValidationError):
        return []


def _link(source: Path, target: Path) -> bool:
    """Return whether ``target`` is there now, as it was or as another name of ``source``."""
    if target.exists():
        return True
    if not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        with atomic_file(target) as partial:
            shutil.copyfile(source, partial)
    return True
