"""Folds: the view of a manifest in which one of them is val and the others are train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.shards.manifest import Manifest, RawSize, Split

FOLD = "fold"
"""Begins the names of the splits that folds are: ``fold0``, ``fold1``, ..."""
Fold = int | Literal["all"] | None
"""As ``train.fold``."""


def fold_names(manifest: Manifest) -> list[str]:
    """Return the names of the folds in ``manifest``, in their order; none where it has train and val."""
    return [name for name in manifest.splits if name.startswith(FOLD)]


def chosen_folds(manifest: Manifest, fold: Fold) -> list[int | None]:
    """Return the folds that ``train.fold`` asks for; ``[None]`` where there are none and none is asked for.

    Raises:
        UserError: there is no such fold, or one must be chosen.
    """
    count, name = len(fold_names(manifest)), manifest.dataset
    if count == 0:
        if fold is None:
            return [None]
        raise UserError(
            f"train.fold: got {fold}, but {name} has no folds; set datasets.{name}.folds, or leave train.fold out"
        )
    if fold == "all":
        return list(range(count))
    if fold is None or fold >= count:
        raise UserError(
            f"train.fold: got {'none' if fold is None else fold}, but {name} has {count} folds; allowed: 0 to "
            f"{count - 1}, or all"
        )
    return [fold]


def one_fold(manifest: Manifest, fold: Fold, command: str) -> Manifest:
    """Return `of_fold` for a command that trains on one.

    Raises:
        UserError: as `chosen_folds`, or all are asked for.
    """
    chosen = chosen_folds(manifest, fold)
    if len(chosen) > 1:
        raise UserError(f"train.fold: got all; {command} takes one, 0 to {len(chosen) - 1}")
    return of_fold(manifest, chosen[0])


def of_fold(manifest: Manifest, fold: int | None) -> Manifest:
    """Return ``manifest`` with fold number ``fold`` as val and all others as train; itself where it has no folds.

    Mean and standard deviation of the pixels stay those of all folds.

    Raises:
        UserError: as `chosen_folds`.
    """
    chosen_folds(manifest, fold)
    names = fold_names(manifest)
    if fold is None:
        return manifest
    train = _joined([manifest.splits[name] for name in names if name != names[fold]])
    others = {name: split for name, split in manifest.splits.items() if name not in names}
    splits = {"train": train, "val": manifest.splits[names[fold]], **others}
    return manifest.model_copy(update={"splits": splits, "fold": fold})


def _joined(splits: Sequence[Split]) -> Split:
    """Return ``splits`` as one."""
    return Split(
        samples=sum(split.samples for split in splits),
        shards=[shard for split in splits for shard in split.shards],
        histogram=np.sum([split.histogram for split in splits], axis=0).tolist(),
        ignored_pixels=sum(split.ignored_pixels for split in splits),
        left_out=[item for split in splits for item in split.left_out],
        raw_bytes=sum(split.raw_bytes for split in splits),
        raw_height=_range([split.raw_height for split in splits]),
        raw_width=_range([split.raw_width for split in splits]),
    )


def _range(sizes: Sequence[RawSize | None]) -> RawSize | None:
    known = [size for size in sizes if size is not None]
    if not known:
        return None
    return RawSize(
        min=min(size.min for size in known),
        max=max(size.max for size in known),
        total=sum(size.total for size in known),
    )
