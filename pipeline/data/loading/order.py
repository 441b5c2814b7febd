"""The order of training: the samples of each batch, and of each process in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def rank_slice(length: int, rank: int, world_size: int) -> slice:
    """Return the part of ``length`` samples that is ``rank``'s: disjoint, complete, sizes within one of each other."""
    return slice(length * rank // world_size, length * (rank + 1) // world_size)


@dataclass(frozen=True)
class SampleOrder:
    """The samples of each batch: a function of (seed, epoch) and the shards, wherever the samples lie.

    Shards are shuffled and taken in windows, and the samples within a window are shuffled; a split of one window is
    shuffled as a whole. Samples are known by their number in the split; one that is drawn again in an epoch by that
    number plus the split's samples, and so on, so that each draw is augmented otherwise.

    Args:
        shards: samples in each shard.
        batch_size: over all processes. Each rank takes its slice of every batch, so all ranks take the same
            number of steps; the last batch of an epoch may be smaller.
        window: samples in a window, rounded up to whole shards.
        classes: of each sample, int64 (N,): each window then has as many draws of each of its classes, of some samples
            several and of others none. None = every sample once.
    """

    shards: tuple[int, ...]
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    window: int = sys.maxsize
    classes: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

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
                yield shards, torch.from_numpy(self._shuffled(samples, [self.seed, epoch, number]))
                shards, held, number = [], 0, number + 1

    def _shuffled(self, samples: NDArray[np.int64], seed: list[int]) -> NDArray[np.int64]:
        """Return ``samples``, or as many balanced draws of them, in a random order."""
        generator = np.random.default_rng(seed)
        if self.classes is None:
            return samples[generator.permutation(len(samples))]
        classes = self.classes[samples]
        present = np.unique(classes)
        share, left = divmod(len(samples), len(present))
        one_more = set(generator.permutation(present)[:left].tolist())
        draws = [
            self._drawn(samples[classes == label], share + (label in one_more), generator)
            for label in present.tolist()
        ]
        return generator.permutation(np.concatenate(draws))

    def _drawn(
        self, samples: NDArray[np.int64], count: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``count`` draws of ``samples``: none is drawn again before all were drawn as often."""
        rounds = range(-(-count // len(samples)))
        drawn = [generator.permutation(samples) + repeat * self.samples for repeat in rounds]
        return np.concatenate(drawn)[:count]

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
