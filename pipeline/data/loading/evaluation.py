"""Batches of a held-out split, each sample once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.data.loading.batch import Batch
from pipeline.data.loading.order import rank_slice
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import read_shard


def evaluation_batches(
    folder: Path, manifest: Manifest, split: str, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Every sample of ``split`` once over all ranks, in the shards' order, holding one shard at a time."""
    for shard in manifest.split(split).shards:
        part = range(shard.samples)[rank_slice(shard.samples, rank, world_size)]
        images: list[npt.NDArray[np.uint8]] = []
        targets: list[npt.NDArray[np.uint8] | int] = []
        for number, (image, target) in enumerate(read_shard(folder / shard.name, shard, manifest)):
            if number in part:
                images.append(image)
                targets.append(target)
            if images and (len(images) == batch_size or number == part.stop - 1):
                yield Batch(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets)))
                images, targets = [], []
