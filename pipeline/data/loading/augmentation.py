"""Augmentation: an Albumentations recipe in params.yaml, by the names that Albumentations uses.

A sample is changed as a function of (seed, epoch, its number in its split) alone, so the number of processes, threads
or batches makes no difference, nor does resuming. Recipes of flips and padded random
crops alone run vectorised on the batch's device; all others run in Albumentations, on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.data.loading.augment_device import VECTORISED, OnDevice
from pipeline.data.loading.augment_host import OnHost
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.loader import Augmentation
from pipeline.data.loading.presets import expand
from pipeline.data.shards.manifest import Manifest

Step = Mapping[str, Mapping[str, Any] | None]
"""One transform: its name and its arguments, as in ``{HorizontalFlip: {p: 0.5}}``."""


class Augment(Protocol):
    """Changes the images and masks of a batch; ``indices`` int64 (B,), beside them, are the samples' numbers in
    their split."""

    on_host: bool
    """True if it works sample by sample in Python, so that threads should run it ahead of the training."""

    def __call__(self, batch: Batch, epoch: int, indices: Tensor) -> Batch: ...


def build_augment(recipe: Sequence[Step], manifest: Manifest, seed: int) -> Augment | None:
    """Build the augmentation that ``train.augment`` describes, tried on noise first; None where it is empty.

    Raises:
        UserError: no such transform, a wrong argument, or what comes out is not an image of the shards' size or of a
            smaller one, the same for all.
    """
    steps = [expand(name, arguments or {}) for step in recipe for name, arguments in step.items()]
    if not steps:
        return None
    augment = (
        OnDevice(steps, seed, manifest.target.spatial)
        if all(name in VECTORISED and VECTORISED[name].takes(arguments) for name, arguments in steps)
        else OnHost(steps, seed, manifest.target.spatial)
    )
    _try(augment, manifest, ", ".join(name for step in recipe for name in step))
    return augment


def _try(augment: Augment, manifest: Manifest, names: str) -> None:
    try:
        batch = _on_noise(augment, manifest)
        height, width = batch.image.shape[1:3]
        spatial = manifest.target.spatial
        fits = height <= manifest.size[0] and width <= manifest.size[1]
        shapes = (8, height, width, manifest.channels), (8, height, width) if spatial else (8,)
        same = (batch.image.shape, batch.target.shape[: len(shapes[1])]) == shapes
        if not (fits and same) or batch.image.dtype != torch.uint8:
            got = f"{str(batch.image.dtype).removeprefix('torch.')} {list(batch.image.shape[1:])}"
            smaller = "or smaller, masks alike" if spatial else "or smaller"
            raise ValueError(
                f"gives {got}; allowed: uint8 {[*manifest.size, manifest.channels]}, as in the shards, {smaller} "
                "(the pipeline normalises by itself)"
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"train.augment: {names}: {reason or type(error).__name__}; change the recipe"
        ) from None


def augmented_size(augment: Augmentation | None, manifest: Manifest) -> tuple[int, int]:
    """Return height and width of the images that are trained on: those of the shards, or of crops of them."""
    if augment is None:
        return manifest.size
    height, width = _on_noise(augment, manifest).image.shape[1:3]
    return height, width


def evaluated_size(recipe: Sequence[Step], manifest: Manifest, seed: int) -> tuple[int, int]:
    """Return height and width of the images that are evaluated, the middle of those in the shards.

    What learns one answer for an image sees as much of it as in the training: a network of tokens takes no other size.
    Masks are evaluated whole.

    Raises:
        UserError: as `build_augment`.
    """
    if manifest.target.spatial:
        return manifest.size
    return augmented_size(build_augment(recipe, manifest, seed), manifest)


def _on_noise(augment: Augmentation, manifest: Manifest) -> Batch:
    """Return a batch of eight augmented images of noise."""
    noise = np.random.default_rng(0)
    shape = (8, *manifest.size, manifest.channels)
    images = torch.from_numpy(noise.integers(0, 256, shape, dtype=np.uint8))
    targets = torch.from_numpy(manifest.target.empty(8, manifest.size, manifest.num_classes))
    return augment(Batch(images, targets), 0, torch.arange(8))
