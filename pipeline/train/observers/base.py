"""The moments of a training that others may follow: the display, tests, benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.data.loading.batch import Batch
from pipeline.train.state import TrainingState


class EndTraining(Exception):
    """Raised by an observer for which the training has shown enough: it ends, and nothing of it is kept."""


class Observer:
    """Is called at each moment of a training; does nothing by default.

    It must leave the state as it is. An exception it raises ends the training there and then.
    """

    def on_start(self, state: TrainingState) -> None:
        """Follow the training from here: restored, before its first step."""

    def before_step(self, state: TrainingState, batch: Batch) -> None:
        """Follow step ``state.progress.step``, which is to be done on ``batch``, on the device."""

    def after_step(self, state: TrainingState) -> None:
        """Follow the step before ``state.progress.step``, done and counted."""

    def on_log(self, state: TrainingState) -> None:
        """Take the moment, every few seconds, in which the device may be waited for."""

    def before_validation(self, state: TrainingState) -> None:
        """Follow the end of epoch ``state.progress.epoch``: all its steps are done."""

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:
        """Take the epoch's metrics by name; ``better`` is true for the best network so far."""

    def after_save(self, state: TrainingState) -> None:
        """Follow the state at step ``state.progress.step``, copied and being written in the background."""

    def on_end(self) -> None:
        """Stop following: the training ended, was stopped, or failed."""


class Observers(Observer):
    """Passes every call on to several, in their order."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def on_start(self, state: TrainingState) -> None:
        for observer in self._observers:
            observer.on_start(state)

    def before_step(self, state: TrainingState, batch: Batch) -> None:
        for observer in self._observers:
            observer.before_step(state, batch)

    def after_step(self, state: TrainingState) -> None:
        for observer in self._observers:
            observer.after_step(state)

    def on_log(self, state: TrainingState) -> None:
        for observer in self._observers:
            observer.on_log(state)

    def before_validation(self, state: TrainingState) -> None:
        for observer in self._observers:
            observer.before_validation(state)

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:
        for observer in self._observers:
            observer.after_validation(state, row, better)

    def after_save(self, state: TrainingState) -> None:
        for observer in self._observers:
            observer.after_save(state)

    def on_end(self) -> None:
        for observer in self._observers:
            observer.on_end()
