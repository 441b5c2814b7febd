"""The order of training: the samples of each batch, and of each process in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def rank_slice(length: int, rank: int, world_size: int) -> slice:
    """Return the part of ``length`` samples that is ``rank``'s: disjoint, complete, sizes within one of each other."""
    return slice(length * rank // world_size, length * (rank + 1) // world_size)


@dataclass(frozen=True)
class SampleOrder:
    """The samples of each batch: a function of (seed, epoch) and the shards, wherever the samples lie.

    Shards are shuffled and taken in windows, and the samples within a window are shuffled; a split of one window is
    shuffled as a whole. Samples are known by their number in the split.

    Args:
        shards: samples in each shard.
        batch_size: over all processes. Each rank takes its slice of every batch, so all ranks take the same
            number of steps; the last batch of an epoch may be smaller.
        window: samples in a window, rounded up to whole shards.
    """

    shards: tuple[int, ...]
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    window: int = sys.maxsize

    @property
    def samples(self) -> int:
        return sum(self.shards)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.samples // self.batch_size)

    def windows(self, epoch: int) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the shards of each window of ``epoch`` and its samples in their order (int64)."""
        starts = np.concatenate([[0], np.cumsum(self.shards)])
        shards: list[int] = []
        held = number = 0
        for position, shard in enumerate(
            np.random.default_rng([self.seed, epoch, 0, 1]).permutation(len(self.shards))
        ):
            shards.append(int(shard))
            held += self.shards[shard]
            if held >= self.window or position == len(self.shards) - 1:
                samples = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in sorted(shards)])
                order = np.random.default_rng([self.seed, epoch, number]).permutation(held)
                yield shards, torch.from_numpy(samples[order])
                shards, held, number = [], 0, number + 1

    def mine(self, positions: Tensor) -> Tensor:
        """Return whether this rank takes the samples at ``positions`` (int64) of an epoch's order: bool."""
        within = positions % self.batch_size
        length = (self.samples - (positions - within)).clamp(max=self.batch_size)
        first, last = length * self.rank // self.world_size, length * (self.rank + 1) // self.world_size
        return (first <= within) & (within < last)

    def batches(self, epoch: int, first_batch: int = 0) -> Iterator[Tensor]:
        """Yield the samples of this rank in each batch of ``epoch`` from number ``first_batch`` on (int64)."""
        order = torch.cat([order for _, order in self.windows(epoch)])
        for batch in torch.split(order, self.batch_size)[first_batch:]:
            yield batch[rank_slice(len(batch), self.rank, self.world_size)]
