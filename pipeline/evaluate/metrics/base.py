"""The contract of a metric that is only reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pipeline.data.loading.batch import Batch
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params
from pipeline.tasks.metrics import Reduce


@dataclass(frozen=True)
class Measurement:
    """A rank's share of a split that is about to be measured."""

    params: Params
    manifest: Manifest
    split: str
    device: torch.device
    rank: int = 0
    world_size: int = 1
    decision: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """As `Trained.decision` of the network that is measured."""


class ReportedMetric(Protocol):
    """Counts while a rank measures its share of a split."""

    def on_batch(self, batch: Batch, logits: Tensor) -> None:
        """Count one batch; ``logits`` are float on the device, the batches come in the order of the shards."""

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the counts of all ranks; called once, on every rank."""

    def compute(self) -> dict[str, float]:
        """Return the values by name, NaN where nothing was counted."""

    def notes(self) -> Sequence[str]:
        """Return what a reader has to know of the values, a line each."""


OpenMetric = Callable[[Measurement], ReportedMetric | None]
"""Gives None where the metric has nothing to count, on this rank at least; then no rank counts it."""
