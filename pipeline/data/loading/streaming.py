"""Training batches from a split that is larger than memory.

Shards are read in the windows of the `SampleOrder`, one window ahead of the training: from the disk, or from the object
store that the manifest names by way of the disk. At most two windows of decoded samples are held, this rank's share of
each. Our own reader finds the samples rather than webdataset's: to it a shard that is short or has other bytes is an
error, not a shorter epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.loading.batch import Batch
from pipeline.data.loading.loader import Loader
from pipeline.data.loading.order import rank_slice
from pipeline.data.loading.prefetch import map_ahead
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import ShardReader, empty_samples

Numbered = tuple[Tensor, Batch]
"""Samples and their numbers in the split (int64)."""


@dataclass(frozen=True)
class StreamLoader(Loader):
    """Training batches read while training; ``workers`` threads decode the next window."""

    folder: Path
    manifest: Manifest
    split: str = "train"
    workers: int = 1

    def _take(self, epoch: int, first_batch: int) -> Iterator[Numbered]:
        skip = self.samples_in(first_batch)
        batch, start = first_batch, 0
        wanted = []
        for shards, order in self.plan.windows(epoch):
            positions = torch.arange(start, start + len(order))
            start += len(order)
            mine = self.plan.mine(positions) & (positions >= skip)
            if start > skip:
                wanted.append((shards, order[mine]))
        left: Numbered | None = None
        for window in map_ahead(iter(wanted), self._read, 1):
            done = 0
            while batch < self.steps_per_epoch:
                size = self._size(batch)
                part = _cut(window, done, done + size - (len(left[0]) if left else 0))
                done += len(part[0])
                taken = _joined(left, part) if left else part
                if len(taken[0]) < size:
                    left = taken
                    break
                left = None
                yield taken
                batch += 1
            # While the one after the next is read, this one should be gone.
            del window, part, taken

    def _size(self, batch: int) -> int:
        """Return how many samples of ``batch`` are this rank's."""
        length = self.samples_in(batch + 1) - self.samples_in(batch)
        return len(range(length)[rank_slice(length, self.plan.rank, self.plan.world_size)])

    def _read(self, window: tuple[list[int], Tensor]) -> Numbered:
        """Read the samples numbered as the order says, in that order, from these shards."""
        shards, order = window
        numbers = order.numpy() % self.plan.samples
        images, targets = empty_samples(self.manifest, len(numbers))
        starts = np.concatenate([[0], np.cumsum(self.plan.shards)])

        def fill(number: int) -> None:
            slots = np.flatnonzero((numbers >= starts[number]) & (numbers < starts[number + 1]))
            if len(slots):
                shard = self.manifest.split(self.split).shards[number]
                reader = ShardReader(self.folder, shard, self.manifest)
                reader.read(numbers[slots] - starts[number], images, targets, slots)

        with ThreadPoolExecutor(self.workers) as pool:
            for _ in pool.map(fill, shards):
                pass
        return order, Batch(torch.from_numpy(images), torch.from_numpy(targets))


def _cut(samples: Numbered, first: int, last: int) -> Numbered:
    """Copy a part: a view would keep its whole window for as long as somebody holds the batch."""
    numbers, batch = samples
    return numbers[first:last].clone(), Batch(
        batch.image[first:last].clone(), batch.target[first:last].clone()
    )


def _joined(*parts: Numbered) -> Numbered:
    """Return all of ``parts`` in one, copied."""
    return torch.cat([numbers for numbers, _ in parts]), Batch(
        torch.cat([batch.image for _, batch in parts]), torch.cat([batch.target for _, batch in parts])
    )
