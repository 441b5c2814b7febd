"""Metrics of a classification: top-1, top-5, mean recall, calibration."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.tasks.metrics import ConfusionMetrics, mean_of_defined, ratio

CALIBRATION_BINS = 15  # Guo et al., 2017, "On Calibration of Modern Neural Networks", section 2


CONFIDENCE_UNIT = 2**24  # confidences are summed in units of 2^-24, the precision of float32 below 1


class ClassificationMetrics(ConfusionMetrics):
    """top-1, top-5 (of six classes or more), mean recall of the classes, expected calibration error.

    Equal logits go to the class that comes first, so a network that says the same of every class is right
    once in ``num_classes``, not always.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_classes, device, extra=1 + 3 * CALIBRATION_BINS)
        has_top5 = num_classes > 5
        self.names = ("top1", *(("top5",) if has_top5 else ()), "mean_class_recall", "ece")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch.

        Args:
            logits: float (B, classes).
            target: int64 (B,).
        """
        logits = logits.detach().float()
        prediction = logits.argmax(1)
        self._count_confusion(target, prediction, ignore=None)
        own = self._counts[self._cells + 2 :]
        own[0] += self._in_top5(logits, target).sum()

        confidence = logits.softmax(1).amax(1).nan_to_num(0.0)
        bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
        samples, hits, confidences = own[1:].view(3, CALIBRATION_BINS)
        samples.scatter_add_(0, bins, torch.ones_like(bins))
        hits.scatter_add_(0, bins, (prediction == target).long())
        confidences.scatter_add_(0, bins, (confidence * CONFIDENCE_UNIT).round().long())

    def _in_top5(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return whether fewer than five classes are ahead of the target: bool (B,).

        A class is behind when its logit is lower, or equal and later. All others are ahead: NaN never wins.
        """
        value = logits.gather(1, target.clamp(0, self.num_classes - 1).unsqueeze(1))
        later = torch.arange(self.num_classes, device=logits.device) > target.unsqueeze(1)
        behind = (logits < value) | ((logits == value) & later)
        return self.num_classes - 1 - behind.sum(1) < 5

    def compute(self) -> dict[str, float]:
        """Compute what `names` lists; ``ece`` is the expected calibration error over 15 equal bins of confidence."""
        confusion = self.confusion
        total = int(confusion.sum())
        top5 = int(self._counts[self._cells + 2])
        figures = {
            "top1": ratio(int(confusion.diagonal().sum()), total),
            "top5": ratio(top5, total),
            "mean_class_recall": mean_of_defined(figures.recall for figures in self.per_class()),
            "ece": ratio(sum(abs(b.hits - b.confidence) for b in self.calibration()), total),
        }
        return {name: figures[name] for name in self.names}

    def calibration(self) -> list[CalibrationBin]:
        """Return the reliability diagram's bins, from confidence 0 to 1."""
        rows = self._counts[self._cells + 3 :].view(3, CALIBRATION_BINS).T.tolist()
        return [CalibrationBin(samples, hits, total / CONFIDENCE_UNIT) for samples, hits, total in rows]


class CalibrationBin(NamedTuple):
    """Predictions of like confidence: how many, how many were right, the sum of their confidences."""

    samples: int
    hits: int
    confidence: float
