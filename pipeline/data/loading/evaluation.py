"""Batches of a held-out split, each sample once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.imaging.resize import centre
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.order import rank_slice
from pipeline.data.loading.prefetch import map_ahead
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import ShardReader, empty_samples

AHEAD = 2
"""Batches decoded in the background, each by a thread."""


def evaluation_batch_size(batch_size: int, world_size: int, accumulate: int) -> int:
    """Return the images that a process works on at once in training, so that validation takes no more memory.

    Args:
        batch_size: of a step, over all processes.
        accumulate: parts that a process takes its share of a batch in.
    """
    return max(1, batch_size // (world_size * accumulate))


def as_many_pixels(batch: int, size: tuple[int, int], other: tuple[int, int]) -> int:
    """Return how many images of the size ``other`` have the pixels of ``batch`` images of ``size``, at least one.

    What is trained on crops is validated whole.
    """
    return max(1, batch * size[0] * size[1] // (other[0] * other[1]))


def evaluation_batches(
    folder: Path,
    manifest: Manifest,
    split: str,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    size: tuple[int, int] | None = None,
) -> Iterator[Batch]:
    """Yield every sample of ``split`` once over all ranks, in the shards' order, read ahead in the background.

    Each rank reads and decodes its own part of each shard, and holds at most `AHEAD` + 1 batches of it.

    Args:
        size: height and width of the middle of each image that is kept; None keeps all. For targets without pixels.

    Raises:
        UserError: a shard is missing, cut short, or holds other samples than the manifest says.
    """

    def read(job: tuple[ShardReader, NDArray[np.int64]]) -> Batch:
        reader, positions = job
        images, targets = empty_samples(manifest, len(positions))
        reader.read(positions, images, targets)
        kept = images if size is None else centre(images, size)
        return Batch(torch.from_numpy(kept), torch.from_numpy(targets))

    return map_ahead(_jobs(folder, manifest, split, batch_size, rank, world_size), read, AHEAD)


def _jobs(
    folder: Path, manifest: Manifest, split: str, batch_size: int, rank: int, world_size: int
) -> Iterator[tuple[ShardReader, NDArray[np.int64]]]:
    """Yield the shard of each batch of ``rank`` and the positions in it (int64)."""
    for shard in manifest.split(split).shards:
        reader = ShardReader(folder, shard, manifest)
        part = np.arange(shard.samples)[rank_slice(shard.samples, rank, world_size)]
        for first in range(0, len(part), batch_size):
            yield reader, part[first : first + batch_size]
