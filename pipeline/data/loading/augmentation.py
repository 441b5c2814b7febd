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
        UserError: no such transform, a wrong argument, or what comes out is not an image of the shards' size.
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
    height, width = manifest.size
    noise = np.random.default_rng(0)
    images = torch.from_numpy(noise.integers(0, 256, (8, height, width, manifest.channels), dtype=np.uint8))
    targets = torch.from_numpy(manifest.target.empty(8, manifest.size, manifest.num_classes))
    try:
        image, target = augment(Batch(images, targets), 0, torch.arange(8))
        if image.shape != images.shape or target.shape != targets.shape or image.dtype != torch.uint8:
            got = f"{str(image.dtype).removeprefix('torch.')} {list(image.shape[1:])}"
            raise ValueError(
                f"gives {got}; allowed: uint8 {list(images.shape[1:])}, as in the shards "
                "(the pipeline normalises by itself)"
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"train.augment: {names}: {reason or type(error).__name__}; change the recipe"
        ) from None
