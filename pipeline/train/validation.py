"""The validation split, measured at the end of an epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.loading.loader import Loader
from pipeline.data.loading.prefetch import prefetch
from pipeline.data.shards.manifest import Manifest
from pipeline.models.batch_norm import recompute_statistics
from pipeline.models.inputs import normalise
from pipeline.tasks.base import Loss
from pipeline.tasks.calibration import TemperatureFit
from pipeline.tasks.score import measure


class Validated(NamedTuple):
    """The outcome of one validation."""

    values: dict[str, float]
    """``val/loss`` and the task's metrics as ``val/<name>``, the same in every process."""
    decision: dict[str, list[float]]
    """What the task's decision needs besides the logits."""


PRECISE_SHARE = 0.1
"""Of an epoch's batches that `PreciseStatistics` takes at most: forward alone and not compiled, a batch takes less than
half of a training step's time, so that all of them take less than 5 % of an epoch."""


@dataclass(frozen=True)
class PreciseStatistics:
    """Batch norm's statistics for evaluation, recomputed over training batches (``train.precise_bn``)."""

    accelerator: Accelerator
    loader: Loader
    manifest: Manifest
    wanted: int
    """Batches asked for."""
    accumulate: int
    """Parts of a batch that are normalised one by one, as in training."""

    @property
    def batches(self) -> int:
        """Batches taken: those asked for, at most `PRECISE_SHARE` of an epoch's, at least one."""
        return max(1, min(self.wanted, int(self.loader.steps_per_epoch * PRECISE_SHARE)))

    def of(self, network: nn.Module, epoch: int) -> nn.Module:
        """Return a copy of ``network``, in evaluation mode, with the statistics of the first batches of ``epoch``.

        They are what the training saw, augmented likewise: a function of (seed, epoch) alone.
        """
        evaluated = copy.deepcopy(network)
        with self.accelerator.autocast():
            sum_over_ranks = partial(self.accelerator.reduce, reduction="sum")
            recompute_statistics(evaluated, self._images(epoch), sum_over_ranks)
        return evaluated

    def _images(self, epoch: int) -> Iterator[Tensor]:
        batches = islice(self.loader.epoch(epoch), self.batches)
        for batch in prefetch(batches, self.accelerator.device):
            for part in batch.image.tensor_split(self.accumulate):
                yield normalise(part, self.manifest.mean, self.manifest.std)


@dataclass(frozen=True)
class Validation:
    """Metrics and mean loss of a network on the validation split, shared out over the processes."""

    accelerator: Accelerator
    folder: Path
    """Of the shards."""
    manifest: Manifest
    size: tuple[int, int]
    """Height and width of the middle of each image that the network sees (`evaluated_size`)."""
    loss: Loss
    batch_size: int
    """Images at once in this process: as many as a training step takes at once, so it needs no more memory."""
    calibrate: bool = False
    """Fit what makes probabilities honest (``train.calibrate``)."""

    def __call__(self, network: nn.Module) -> Validated:
        """Measure ``network``, which is put in evaluation mode."""
        batches = evaluation_batches(
            self.folder,
            self.manifest,
            "val",
            self.batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.size,
        )
        device = self.accelerator.device
        sum_over_ranks = partial(self.accelerator.reduce, reduction="sum")
        fit = TemperatureFit(device) if self.calibrate else None

        def on_batch(batch: Batch, logits: Tensor) -> None:
            if fit is not None:
                fit.update(logits, batch.target.to(device).long())

        with self.accelerator.autocast():
            metrics, mean_loss = measure(
                network.eval(),
                batches,
                self.manifest,
                self.loss,
                device,
                sum_over_ranks,
                on_batch,
            )
        decision = metrics.decision()
        if fit is not None:
            fit.reduce(sum_over_ranks)
            decision |= fit.decision()
        values = {f"val/{name}": value for name, value in metrics.compute().items()}
        return Validated({"val/loss": mean_loss.compute(), **values}, decision)
