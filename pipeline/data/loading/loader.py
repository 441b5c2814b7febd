"""Shards to batches, in an order that is a function of (seed, epoch) alone.

A split that fits lives in memory as uint8 arrays and a batch is one gather; a larger one streams
(`pipeline.data.loading.streaming`). Both follow the same `SampleOrder`, so they give the same batches, and both can
resume in mid-epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from pipeline.data.loading.batch import Batch
from pipeline.data.loading.order import SampleOrder
from pipeline.data.loading.prefetch import map_ahead

Augmentation = Callable[[Batch, int, Tensor], Batch]
"""(batch, epoch, numbers of its samples as `SampleOrder` has them) -> batch."""


@dataclass(frozen=True)
class Loader(ABC):
    """Training batches of an epoch over all ranks, from any batch on.

    ``threads`` run the augmentation ahead of the training; with 0 it runs between the steps.
    """

    plan: SampleOrder
    augment: Augmentation | None = field(default=None, kw_only=True)
    threads: int = field(default=0, kw_only=True)

    @property
    def steps_per_epoch(self) -> int:
        return self.plan.steps_per_epoch

    def samples_in(self, batches: int) -> int:
        """Return how many samples the first ``batches`` batches of an epoch have, over all ranks."""
        return min(batches * self.plan.batch_size, self.plan.samples)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield this rank's part of the batches of ``epoch`` from number ``first_batch`` on."""
        taken = self._take(epoch, first_batch)
        if (augment := self.augment) is None:
            return (batch for _, batch in taken)

        def work(pair: tuple[Tensor, Batch]) -> Batch:
            indices, batch = pair
            return augment(batch, epoch, indices)

        return map_ahead(taken, work, self.threads) if self.threads else map(work, taken)

    @abstractmethod
    def _take(self, epoch: int, first_batch: int) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the numbers of the samples (int64) of each batch and the batch, on the same device."""
