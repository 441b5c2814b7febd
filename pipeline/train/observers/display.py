"""A training on the terminal: a progress bar, and a line for each epoch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from pipeline.params import Phase
from pipeline.train.observers.base import Observer
from pipeline.train.phases import PhaseSteps
from pipeline.train.state import Progress, TrainingState

AT_MOST = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining} at most, {rate_fmt}{postfix}]"
"""tqdm's own bar, for a training that may end earlier."""


class Display(Observer):
    """Shows one training.

    Args:
        metric: the metric that picks the best epoch, as ``val/<name>``.
    """

    def __init__(self, phases: Sequence[Phase], steps_per_epoch: int, batch_size: int, metric: str) -> None:
        self.phases, self.steps_per_epoch, self.batch_size = phases, steps_per_epoch, batch_size
        self.metric = metric
        self._bar: tqdm[Any] | None = None

    def on_start(self, state: TrainingState) -> None:
        self._bar = progress_bar(state.progress, self.phases, self.steps_per_epoch, self.batch_size)

    def after_step(self, state: TrainingState) -> None:  # noqa: ARG002
        assert self._bar is not None
        self._bar.update(self.batch_size)

    def on_log(self, state: TrainingState) -> None:
        assert self._bar is not None
        self._bar.set_postfix(epoch=state.progress.epoch, loss=f"{state.mean_loss():.4f}")

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:
        tqdm.write(
            f"epoch {state.progress.epoch + 1:3d}  train/loss {row['train/loss']:.4f}  "
            f"val/loss {row['val/loss']:.4f}  {self.metric} {row[self.metric]:.4f}{' *' if better else '  '}  "
            f"{row['train/images_per_second']:,.1f} img/s",
            file=sys.stderr,
        )

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_bar(
    progress: Progress, phases: Sequence[Phase], steps_per_epoch: int, batch_size: int
) -> tqdm[Any]:
    """Return a bar of images up to the end, as far as it is known: a phase with patience may end earlier."""
    last = progress.phase_first
    for phase in phases[progress.phase :]:
        last = PhaseSteps.begin(phase, last, steps_per_epoch, batch_size).last
    return tqdm(
        total=last * batch_size,
        initial=progress.step * batch_size,
        unit="img",
        unit_scale=True,
        dynamic_ncols=True,
        bar_format=AT_MOST if any(phase.patience for phase in phases[progress.phase :]) else None,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
    )
