"""One split, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluate.metrics.base import ReportedMetric
from pipeline.tasks.examples import Examples
from pipeline.tasks.metrics import Metrics


@dataclass(frozen=True)
class SplitResult:
    """One split, measured: ``loss`` per target, ``seconds`` for all of it."""

    split: str
    metrics: Metrics
    loss: float
    samples: int
    seconds: float
    examples: Examples[Any]
    reported: Sequence[ReportedMetric] = ()

    @property
    def values(self) -> dict[str, float]:
        """Return the task's metrics, those that are only reported, and the loss, by name."""
        reported = {name: value for metric in self.reported for name, value in metric.compute().items()}
        return {**self.metrics.compute(), **reported, "loss": self.loss}
