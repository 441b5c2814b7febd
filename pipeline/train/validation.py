"""The validation split, measured at the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from torch import nn

from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.shards.manifest import Manifest
from pipeline.tasks.base import Loss
from pipeline.tasks.score import measure


class Validated(NamedTuple):
    """The outcome of one validation."""

    values: dict[str, float]
    """``val/loss`` and the task's metrics as ``val/<name>``, the same in every process."""
    decision: dict[str, list[float]]
    """What the task's decision needs besides the logits."""


@dataclass(frozen=True)
class Validation:
    """Metrics and mean loss of a network on the validation split, shared out over the processes."""

    accelerator: Accelerator
    folder: Path
    """Of the shards."""
    manifest: Manifest
    loss: Loss
    batch_size: int
    """Images at once in this process: as many as a training step takes at once, so it needs no more memory."""

    def __call__(self, network: nn.Module) -> Validated:
        """Measure ``network``, which is put in evaluation mode."""
        batches = evaluation_batches(
            self.folder,
            self.manifest,
            "val",
            self.batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        with self.accelerator.autocast():
            metrics, mean_loss = measure(
                network.eval(),
                batches,
                self.manifest,
                self.loss,
                self.accelerator.device,
                partial(self.accelerator.reduce, reduction="sum"),
            )
        values = {f"val/{name}": value for name, value in metrics.compute().items()}
        return Validated({"val/loss": mean_loss.compute(), **values}, metrics.decision())
