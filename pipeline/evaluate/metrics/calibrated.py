"""The calibration error that is left at the temperature that was fitted on val."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from pipeline.data.loading.batch import Batch
from pipeline.evaluate.metrics.base import Measurement
from pipeline.tasks.calibration import TEMPERATURE, temperature_of
from pipeline.tasks.classification_metrics import ClassificationMetrics
from pipeline.tasks.metrics import Reduce


@dataclass
class Calibrated:
    """Counts a classifier's answers at its temperature."""

    temperature: float
    metrics: ClassificationMetrics

    @classmethod
    def open(cls, measurement: Measurement) -> Self | None:
        """Return the metric; None for a network that keeps no temperature."""
        if TEMPERATURE not in measurement.decision:
            return None
        metrics = ClassificationMetrics(measurement.manifest.num_classes, measurement.device)
        return cls(temperature_of(measurement.decision), metrics)

    def on_batch(self, batch: Batch, logits: Tensor) -> None:
        """Count one batch; logits are float (B, classes)."""
        self.metrics.update(logits / self.temperature, batch.target.to(logits.device).long())

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the counts of all ranks; call it once, on every rank."""
        self.metrics.reduce(sum_over_ranks)

    def compute(self) -> dict[str, float]:
        """Return ``ece_calibrated``, between 0 and 1."""
        return {"ece_calibrated": self.metrics.compute()["ece"]}

    def notes(self) -> Sequence[str]:
        """Return the temperature."""
        return [f"temperature {self.temperature:.3f}, fitted on val"]
