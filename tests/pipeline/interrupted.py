"""Trainings that end where a test wants them to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.data.loading.batch import Batch
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState


class Interrupted(Exception):
    """The end of a training that a `CutOff` cut off."""


class CutOff(Observer):
    """Raises ``error`` at a ``moment``, a method of `Observer`, the first time that ``when`` holds there."""

    def __init__(
        self,
        moment: str,
        when: Callable[[TrainingState], bool],
        error: type[BaseException] = Interrupted,
    ) -> None:
        assert hasattr(Observer, moment)
        self.moment, self.when, self.error = moment, when, error

    def _reached(self, moment: str, state: TrainingState) -> None:
        if moment == self.moment and self.when(state):
            raise self.error

    def before_step(self, state: TrainingState, batch: Batch) -> None:  # noqa: ARG002
        self._reached("before_step", state)

    def before_validation(self, state: TrainingState) -> None:
        self._reached("before_validation", state)

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:  # noqa: ARG002
        self._reached("after_validation", state)
