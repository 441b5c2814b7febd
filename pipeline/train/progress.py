"""How far a training is: what it has to know to go on, what its best was, and the bar that shows it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from pipeline.params import Phase
from pipeline.train.phases import PhaseSteps

AT_MOST = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining} at most, {rate_fmt}{postfix}]"
"""tqdm's own bar, where the training may end earlier."""


@dataclass
class Progress:
    """Where a training stands: everything a resumed one needs besides its tensors."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    phase: int = 0
    phase_first: int = 0
    best: float | None = None
    best_loss: float = 0.0
    best_epoch: int = 0
    best_step: int = 0
    epochs_without_better: int = 0
    seconds: float = 0.0
    """That the epoch has been trained for, validation left out."""
    curves: list[dict[str, float]] = field(default_factory=list)

    def judge(self, value: float, loss: float) -> bool:
        """Whether the epoch that ends is the best so far; takes note of it."""
        # Of equal figures, as few images give, the one with the lower loss is the better.
        better = self.best is None or (value, -loss) > (self.best, -self.best_loss)
        if better:
            self.best, self.best_loss = value, loss
            self.best_epoch, self.best_step = self.epoch + 1, self.step
        self.epochs_without_better = 0 if better else self.epochs_without_better + 1
        return better


def progress_bar(
    progress: Progress, phases: Sequence[Phase], steps_per_epoch: int, batch_size: int, shown: bool
) -> tqdm[Any]:
    """Images up to the end, as far as it is known: a phase with patience may end earlier, and then the bar says so."""
    last = progress.phase_first
    for phase in phases[progress.phase :]:
        last = PhaseSteps.begin(phase, last, steps_per_epoch, batch_size).last
    return tqdm(
        total=last * batch_size,
        initial=progress.step * batch_size,
        unit="img",
        unit_scale=True,
        disable=not shown,
        dynamic_ncols=True,
        bar_format=AT_MOST if any(phase.patience for phase in phases[progress.phase :]) else None,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
    )
