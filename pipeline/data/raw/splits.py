"""Splits: train, val and test, or folds, and the order of the samples in them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from pipeline.core.errors import UserError
from pipeline.data.raw.listing import Listing, Sample, shuffled, stable_hash
from pipeline.data.shards.folds import FOLD
from pipeline.params import DatasetParams


def arranged(listing: Listing, dataset: DatasetParams, data: str) -> Listing:
    """Return ``listing`` in the splits that its shards have: folds where ``dataset`` has them, else train and val.

    Raises:
        UserError: as `with_folds` and `with_val_split`.
    """
    if dataset.folds is None:
        return with_val_split(listing, dataset.val_fraction, data)
    return with_folds(listing, dataset.folds, data)


def with_folds(listing: Listing, folds: int, data: str) -> Listing:
    """Return ``listing`` with train and val cut into ``folds`` splits of equal size, each class alike.

    The choice is fixed. Samples of one group stay together, and classes are then as they fall.

    Raises:
        UserError: a fold would have no sample.
    """
    pooled = [sample for name in ("train", "val") for sample in listing.splits.get(name, ())]
    grouped = any(sample.group is not None for sample in pooled)
    parts = _by_group(pooled, folds) if grouped else _by_class(pooled, folds)
    if not all(parts):
        what = "groups" if grouped else "samples"
        raise UserError(f"datasets.{data}.folds: got {folds}, but there are fewer {what}; take fewer folds")
    splits = {f"{FOLD}{number}": _by_key(part, data) for number, part in enumerate(parts)}
    if test := listing.splits.get("test"):
        splits["test"] = _by_key(test, data)
    left_out = {f"{FOLD}0": [item for name in ("train", "val") for item in listing.left_out.get(name, ())]}
    if "test" in listing.left_out:
        left_out["test"] = listing.left_out["test"]
    return replace(listing, splits=splits, left_out=left_out)


def _by_class(samples: list[Sample], folds: int) -> list[list[Sample]]:
    """Deal the samples of each class out in a fixed order, going on where the class before ended."""
    parts: list[list[Sample]] = [[] for _ in range(folds)]
    dealt = 0
    for group in _classes(samples).values():
        for sample in shuffled(group, "folds"):
            parts[dealt % folds].append(sample)
            dealt += 1
    return parts


def _by_group(samples: list[Sample], folds: int) -> list[list[Sample]]:
    """Give each group, the largest first, to the fold that has the fewest samples."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group or sample.name, []).append(sample)
    parts: list[list[Sample]] = [[] for _ in range(folds)]
    for _, group in sorted(groups.items(), key=lambda item: (-len(item[1]), stable_hash(item[0], 8))):
        min(parts, key=len).extend(group)
    return parts


def _classes(samples: list[Sample]) -> dict[object, list[Sample]]:
    by_class: dict[object, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.target if isinstance(sample.target, int) else None, []).append(sample)
    return by_class


def with_val_split(listing: Listing, fraction: float, data: str) -> Listing:
    """Return ``listing`` with a ``val`` split, and each split in the order of its samples' keys: well mixed.

    Where the raw files have none, ``fraction`` of each class of train is cut off by a fixed choice; at 0 the
    split called ``test`` is named ``val``.

    Raises:
        UserError: there is no held-out split and ``fraction`` is 0, or two samples have one key.
    """
    splits = {name: samples for name, samples in listing.splits.items() if samples}
    left_out = dict(listing.left_out)
    if "val" not in splits:
        if fraction > 0:
            splits["train"], splits["val"] = _cut_off(splits["train"], fraction)
            if not splits["val"]:
                raise UserError(f"{data}: no class has two images, so none can be held out as val; add some")
        elif "test" in splits:
            splits["val"] = splits.pop("test")
            left_out["val"] = left_out.pop("test", [])
        else:
            raise UserError(
                f"{data}: no val or test split among the raw files{_besides(listing)}; "
                f"set datasets.{data}.val_fraction, e.g. 0.2"
            )
    order = [name for name in ("train", "val", "test") if name in splits]
    ordered: dict[str, list[Sample]] = {name: _by_key(splits[name], data) for name in order}
    return replace(listing, splits=ordered, left_out=left_out)


def _besides(listing: Listing) -> str:
    """Return what was passed over, for a message: a split under an unknown name may be among it."""
    found = [
        f"{item.count} of {reason} (e.g. {item.example})"
        for reason, item in (listing.passed_over or {}).items()
    ]
    return f"; not used: {', '.join(found)}" if found else ""


def _by_key(samples: list[Sample], data: str) -> list[Sample]:
    ordered = sorted(samples, key=lambda sample: sample.key)
    for one, other in pairwise(ordered):
        if one.key == other.key:
            raise UserError(f"{data}: {one.name} and {other.name} get the same key; rename one of them")
    return ordered


def _cut_off(samples: list[Sample], fraction: float) -> tuple[list[Sample], list[Sample]]:
    """Split ``samples`` per class: the first ``fraction`` in a fixed order is val, at least one of two or more."""
    chosen: set[str] = set()
    for group in _classes(samples).values():
        count = min(max(1, round(fraction * len(group))), len(group) - 1)
        chosen.update(sample.name for sample in shuffled(group, "val")[:count])
    train = [sample for sample in samples if sample.name not in chosen]
    return train, [sample for sample in samples if sample.name in chosen]
