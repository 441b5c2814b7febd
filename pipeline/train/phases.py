"""Phases of training: their first and last steps, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.params import Duration, Phase

ONECYCLE_RISE = 0.3
"""Part of a onecycle phase in which the learning rate rises (Smith 2018; torch's own default)."""


ONECYCLE_START, ONECYCLE_END = 1 / 25, 1e-5
"""Learning rate at both ends of a onecycle phase, as parts of its peak."""


def steps(duration: Duration, steps_per_epoch: int, batch_size: int) -> int:
    """Return a duration in optimiser steps, at least 1. Nothing after this counts in epochs or samples."""
    if duration.steps is not None:
        return duration.steps
    if duration.samples is not None:
        return math.ceil(duration.samples / batch_size)
    assert duration.epochs is not None
    return max(1, round(duration.epochs * steps_per_epoch))


@dataclass(frozen=True)
class PhaseSteps:
    """A phase as steps: it has those from ``first`` up to, not including, ``last``."""

    phase: Phase
    first: int
    last: int
    warmup: int

    @classmethod
    def begin(cls, phase: Phase, first: int, steps_per_epoch: int, batch_size: int) -> PhaseSteps:
        """Return ``phase`` as it runs from step ``first`` on."""
        length = steps(phase, steps_per_epoch, batch_size)
        warmup = steps(phase.warmup, steps_per_epoch, batch_size) if phase.warmup else 0
        return cls(phase, first, first + length, min(warmup, length))

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of ``step`` (counted over the whole training): a function of the step alone."""
        done, length = step - self.first, self.last - self.first
        if done < self.warmup:
            return self.phase.lr * (done + 1) / self.warmup
        part = (done - self.warmup) / max(1, length - self.warmup)
        return self.phase.lr * SCHEDULES[self.phase.schedule](part)


def _onecycle(part: float) -> float:
    if part < ONECYCLE_RISE:
        return _cosine_between(ONECYCLE_START, 1.0, part / ONECYCLE_RISE)
    return _cosine_between(1.0, ONECYCLE_END, (part - ONECYCLE_RISE) / (1 - ONECYCLE_RISE))


def _cosine_between(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,  # noqa: ARG005
    "cosine": lambda part: _cosine_between(1.0, 0.0, part),
    "linear": lambda part: 1.0 - part,
    "onecycle": _onecycle,
}
"""Learning rate as a part of its peak, given the part of the phase (after warm-up) that is done, in [0, 1)."""
