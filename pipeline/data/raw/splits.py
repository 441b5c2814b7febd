"""Splits: train, val and test, and the order of the samples in them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from pipeline.core.errors import UserError
from pipeline.data.raw.listing import Listing, Sample, shuffled


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
    by_class: dict[object, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.target if isinstance(sample.target, int) else None, []).append(sample)
    chosen: set[str] = set()
    for group in by_class.values():
        count = min(max(1, round(fraction * len(group))), len(group) - 1)
        chosen.update(sample.name for sample in shuffled(group, "val")[:count])
    train = [sample for sample in samples if sample.name not in chosen]
    return train, [sample for sample in samples if sample.name in chosen]
