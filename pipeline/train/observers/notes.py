"""Notes on a training that outlive its process: its accuracy, rate and time, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.train.cadence import Timer
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState


class Notes(Observer):
    """Notes after each epoch the ``rate``, the ``seconds`` so far, and the ``curve``.

    ``rate`` is in images a second of training, of the last epoch. ``seconds`` leave out the time between the end of an
    epoch and a kill. ``curve`` has the accuracy on val by epoch, of which the first is "0".

    Args:
        metric: the column of the validation that counts.
        note: keeps values with the training; may be called again with the same ones, by one that was resumed.
        known: what the earlier processes of the training noted.
    """

    def __init__(self, metric: str, note: Callable[[str, Any], None], known: Mapping[str, Any]) -> None:
        self._metric, self._note = metric, note
        self._curve: dict[str, float] = dict(known.get("curve", {}))
        self._seconds: float = known.get("seconds", 0.0)
        self._timer = Timer()

    def on_start(self, state: TrainingState) -> None:  # noqa: ARG002
        self._timer.restart()

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:  # noqa: ARG002
        self._seconds += self._timer.restart()
        # An epoch that was trained once more after a kill has the same accuracy, and replaces its point.
        self._curve[str(state.progress.epoch)] = row[self._metric]
        self._note("rate", row["train/images_per_second"])
        self._note("seconds", self._seconds)
        self._note("curve", self._curve)

    def accuracies(self, epoch: int) -> list[float]:
        """Return the accuracies of the epochs up to ``epoch``, counted from 0."""
        return [value for number, value in self._curve.items() if int(number) <= epoch]
