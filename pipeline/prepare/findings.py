"""Findings about the data, from the hashes of prepared images that the units leave: see `Findings`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.listing import Listing, Sample
from pipeline.data.shards.findings import EqualImages, Findings
from pipeline.data.shards.folds import FOLD
from pipeline.prepare.convert import Result

EXAMPLES = 3
"""Pairs of equal images that a manifest names for each finding."""


Hashes = NDArray[np.uint64]
"""A hash per sample, 0 for one that was left out."""


def find(listing: Listing, results: Sequence[Result], i: int) -> Findings:
    """Compare all samples of size ``i`` with one another."""
    images = {split: _hashes(results, split, i, "images") for split in listing.splits}
    repeated, leaked = {}, {}
    for split, samples in listing.splits.items():
        later, first = _equal(images[split])
        repeated[split] = _found(samples, later, first)
        if others := _trained_beside(split, list(listing.splits)):
            trained = [sample for name in others for sample in listing.splits[name]]
            later, first = _equal(np.concatenate([*(images[name] for name in others), images[split]]))
            across = (later >= len(trained)) & (first < len(trained))
            leaked[split] = _found([*trained, *samples], later[across], first[across])
    later, first = _equal(np.concatenate(list(images.values())))
    labels = _labels(listing, results, i)
    other = labels[later] != labels[first]
    everything = [sample for samples in listing.splits.values() for sample in samples]
    return Findings(
        repeated=repeated,
        leaked=leaked,
        contradicted=_found(everything, later[other], first[other]),
        small={
            split: sum(result.parts[i].small for result in results if result.split == split)
            for split in listing.splits
        },
    )


def _trained_beside(split: str, splits: Sequence[str]) -> list[str]:
    """Return the splits that are trained on where ``split`` is held out: train, or of folds those before it."""
    if "train" in splits:
        return ["train"] if split != "train" else []
    return [name for name in splits[: splits.index(split)] if name.startswith(FOLD)]


def _hashes(results: Sequence[Result], split: str, i: int, field: str) -> Hashes:
    """Return the hashes of a split's images, or of its masks, in the order of its samples."""
    text = "".join(getattr(result.parts[i], field) for result in results if result.split == split)
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)


def _labels(listing: Listing, results: Sequence[Result], i: int) -> NDArray[np.generic]:
    """Return a number per sample, equal for equal labels or masks, over all splits."""
    if listing.labels is not None:
        return np.concatenate([_hashes(results, split, i, "masks") for split in listing.splits])
    numbers: dict[object, int] = {}
    targets = (sample.target for samples in listing.splits.values() for sample in samples)
    return np.array([numbers.setdefault(target, len(numbers)) for target in targets])


def _equal(hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of samples that equal an earlier one, and of the first that each equals."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    same = np.zeros(len(order), bool)
    same[1:] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    return order[same], order[starts[same]]


def _found(samples: Sequence[Sample], later: NDArray[np.int64], first: NDArray[np.int64]) -> EqualImages:
    """Count the pairs, and name those that come first among ``samples``."""
    shown = np.argsort(later)[:EXAMPLES]
    pairs = zip(first[shown].tolist(), later[shown].tolist(), strict=True)
    return EqualImages(
        count=len(later), examples=[(samples[one].name, samples[other].name) for one, other in pairs]
    )
