"""What changes while a network is trained."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.checkpoints import states
from pipeline.core.device import precise_type
from pipeline.train.average import WeightAverage

NO_STEP = torch.iinfo(torch.int64).max
"""Later than any step: `TrainingState.first_bad_step` of a training in which every loss was finite."""


@dataclass
class Progress:
    """The point that a training has reached: what a resumed one needs besides its tensors."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Steps done in this epoch."""
    phase: int = 0
    phase_first: int = 0
    """The first step of this phase."""
    best: float | None = None
    """The metric of the best epoch so far."""
    best_loss: float = 0.0
    best_epoch: int = 0
    best_step: int = 0
    epochs_without_better: int = 0
    seconds: float = 0.0
    """Spent on the epoch, validation left out."""
    curves: list[dict[str, float]] = field(default_factory=list)
    """A row of metrics for each epoch."""

    def judge(self, value: float, loss: float) -> bool:
        """Return whether the epoch that ends is the best so far, by its metric and its validation loss; record it.

        Of equal metrics, as few images give, the one with the lower loss is better. A loss that is not finite is
        never better than any before.
        """
        better = self.best is None or (math.isfinite(loss) and (value, -loss) > (self.best, -self.best_loss))
        if better:
            self.best, self.best_loss = value, loss
            self.best_epoch, self.best_step = self.epoch + 1, self.step
        self.epochs_without_better = 0 if better else self.epochs_without_better + 1
        return better

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.batch = 0

    def next_phase(self) -> None:
        """Begin the next phase."""
        self.phase += 1
        self.phase_first = self.step
        self.epochs_without_better = 0


@dataclass
class TrainingState:
    """The network and all that its training has changed: saved together, restored together.

    ``losses`` and ``first_bad_step`` lie on the network's device and are this process's own until they are reduced.
    """

    network: nn.Module
    average: WeightAverage | None
    scaler: torch.amp.GradScaler | None
    losses: Tensor
    """(2,): the sum of the losses and the number of targets since the epoch began."""
    first_bad_step: Tensor
    """int64 scalar: the first step whose loss was not finite, or `NO_STEP`."""
    optimizer: torch.optim.Optimizer | None = None
    """Of the current phase; None before the first."""
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def begin(
        cls,
        network: nn.Module,
        average: WeightAverage | None,
        scaler: torch.amp.GradScaler | None,
        device: torch.device,
    ) -> TrainingState:
        """Return the state of a training that has not done a step."""
        losses = torch.zeros(2, dtype=precise_type(device), device=device)
        return cls(network, average, scaler, losses, torch.full((), NO_STEP, device=device))

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights where one is taken."""
        return self.network if self.average is None else self.average.module

    def mean_loss(self) -> float:
        """Return the mean loss since the epoch began; waits for the device."""
        return float(self.losses[0] / self.losses[1].clamp(min=1))

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all tensors to save, by group and name: those in use, not copies."""
        assert self.optimizer is not None
        tensors = states.state_tensors(self.network, self.optimizer, self.average, self.scaler)
        tensors["sums"] = {"sums": self.losses}
        return tensors

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]], progress: Progress, first: bool) -> None:
        """Put back what `tensors` gave, but for the optimiser's, which is built when its phase begins.

        Args:
            first: this is the first process, whose own part of the losses was saved.
        """
        self.progress = progress
        states.restore_network(tensors, self.network, self.average, self.scaler)
        if first:
            self.losses.copy_(tensors["sums"]["sums"])

    def reduce(self, accelerator: Accelerator) -> None:
        """Make ``losses`` and ``first_bad_step`` those of all processes together; every process calls it."""
        self.losses = accelerator.reduce(self.losses, reduction="sum")
        if accelerator.num_processes > 1:
            dist.all_reduce(self.first_bad_step, dist.ReduceOp.MIN)

    def loss_problem(self) -> str | None:
        """Return when a loss was not finite, as the start of a message; waits for the device."""
        step = int(self.first_bad_step)
        return f"the loss was not finite at step {step}" if step < NO_STEP else None

    def problem(self) -> str | None:
        """Return what makes this state not worth saving or validating, as the start of a message; waits.

        A step whose loss was finite can end with weights that are not: the next loss would tell, too late.
        """
        if (problem := self.loss_problem()) is not None:
            return problem
        weights = [tensor.detach() for tensor in self._weights() if tensor.is_floating_point()]
        largest = torch.stack(torch._foreach_norm(weights, torch.inf))
        if bool(largest.isfinite().all()):
            return None
        return f"the weights were not finite after step {self.progress.step - 1}"

    def digest(self) -> str:
        """Return the SHA-256 of all weights, equal on every process that trains the same network."""
        content = hashlib.sha256()
        for tensor in self._weights():
            content.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return content.hexdigest()

    def _weights(self) -> list[Tensor]:
        """Return the parameters and buffers of the network, and those of the average."""
        networks = [self.network] if self.average is None else [self.network, self.average.module]
        return [tensor for one in networks for tensor in (*one.parameters(), *one.buffers())]
