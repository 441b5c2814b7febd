"""One step of training."""

from __future__ import annotations

import hashlib
import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.data.loading.batch import Batch
from pipeline.data.shards.manifest import Manifest
from pipeline.models.inputs import normalise
from pipeline.params import TrainParams
from pipeline.profiling.optimizers import set_learning_rate
from pipeline.tasks import task_of
from pipeline.tasks.base import Loss
from pipeline.tasks.mixing import Mixing
from pipeline.train.state import TrainingState


@dataclass(frozen=True)
class TrainStep:
    """Forward, backward, and the optimiser's step, on this process's part of a batch.

    ``model`` is the state's network as it trains: compiled, and wrapped where several processes share its gradients.
    """

    model: nn.Module
    state: TrainingState
    loss: Loss
    accelerator: Accelerator
    manifest: Manifest
    settings: TrainParams
    mixing: Mixing | None = None

    def __call__(self, batch: Batch, learning_rate: float) -> None:
        """Train on ``batch``, which lies on the device. Nothing in it waits for the device."""
        state, optimizer = self.state, self.state.optimizer
        assert optimizer is not None
        torch.manual_seed(step_seed(self.settings.seed, self.accelerator.process_index, state.progress.step))
        set_learning_rate(optimizer, learning_rate)
        image, target = batch.image, batch.target.long()
        count = task_of(self.manifest).count(target).float()
        total = self._backward(image, target, count)
        self._update(optimizer)
        if state.average is not None:
            state.average.update_parameters(state.network)
        state.losses += torch.stack([total, count])
        bad = torch.where(torch.isfinite(total), state.first_bad_step, state.progress.step)
        state.first_bad_step = torch.minimum(state.first_bad_step, bad)

    def _backward(self, image: Tensor, target: Tensor, count: Tensor) -> Tensor:
        """Compute the gradients of the batch's mean loss; return the sum of the losses of this process's part."""
        # Gradients are averaged over processes, so each rank's part of the mean is scaled up by their number.
        world_size = self.accelerator.num_processes
        scale = world_size / self.accelerator.reduce(count, reduction="sum").clamp(min=1)
        total = torch.zeros((), device=image.device)
        number = self.settings.accumulate
        parts = list(zip(image.tensor_split(number), target.tensor_split(number), strict=True))
        for index, (part, part_target) in enumerate(parts):
            with self._synchronised(index == len(parts) - 1):
                images, wanted = normalise(part, self.manifest.mean, self.manifest.std), part_target
                if self.mixing is not None:
                    images, wanted = self.mixing(images, part_target)
                loss = self.loss(self.model(images), wanted)
                self.accelerator.backward(loss * scale)
            total += loss.detach()
        return total

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Have gradients travel between processes once a step, with its last part."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def _update(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, take the step, and drop the gradients.

        The scaler is used by hand: Accelerate's clipping unscales the gradients once for every optimiser it prepared,
        and it keeps those of earlier phases.
        """
        scaler, limit = self.state.scaler, self.settings.clip_grad_norm
        if limit is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self.state.network.parameters(), limit)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)


def step_seed(seed: int, rank: int, step: int) -> int:
    """Return the seed of all randomness of one step in one process (63 bits); near steps differ widely."""
    digest = hashlib.blake2b(struct.pack("<QQQ", seed, rank, step), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
