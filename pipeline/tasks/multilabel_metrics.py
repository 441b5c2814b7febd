"""Metrics of images with any number of classes: average precision, F1 score, share of exact matches."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.tasks.metrics import Metrics, mean_of_defined, ratio

STEPS = 1000
"""Thresholds of a probability: 0, 1/1000, ..., 1."""


class LabelRow(NamedTuple):
    """Values of one class; NaN where it never occurs, or is never predicted."""

    actual: int
    """Images with this class."""
    predicted: int
    """Images taken to have it, at a threshold of 0.5."""
    recall: float
    precision: float
    average_precision: float
    threshold: float
    """The probability from which on taking it to be present gives the best F1 score."""


class MultilabelMetrics(Metrics):
    """Average precision from counts at 1001 thresholds, so that ranks and batches add up exactly.

    The counts are, for each class and each threshold that is the highest its probability reaches, the images without
    and with the class; then the co-occurrences (true class, predicted class); then exact matches and images.
    """

    names = ("map", "mean_f1", "exact_match")

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self._bins = num_classes * (STEPS + 1) * 2
        super().__init__(num_classes, self._bins + num_classes**2 + 2, device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch.

        Args:
            logits: float (B, classes).
            target: 0 or 1, (B, classes).
        """
        probability = logits.detach().float().sigmoid().nan_to_num(0.0)
        target = target.long()
        step = (probability * STEPS).floor().long().clamp(0, STEPS)
        offset = torch.arange(self.num_classes, device=logits.device) * (STEPS + 1)
        cell = ((step + offset) * 2 + target).flatten()
        self._counts[: self._bins].scatter_add_(0, cell, torch.ones_like(cell))
        predicted = probability >= 0.5
        # float32 counts a batch exactly, and multiplies on every device.
        pairs = target.float().T @ predicted.float()
        self._counts[self._bins : -2] += pairs.round().long().flatten()
        self._counts[-2] += (predicted.long() == target).all(1).sum()
        self._counts[-1] += len(target)

    @property
    def confusion(self) -> Tensor:
        """Images with class i (row) that are taken to have class j (column), int64 on the CPU."""
        return self._counts[self._bins : -2].cpu().view(self.num_classes, self.num_classes)

    @property
    def totals(self) -> Tensor:
        """Images with each class, int64 (classes,) on the CPU."""
        return self._by_threshold()[..., 1].sum(1)

    def per_class(self) -> list[LabelRow]:
        """Return the values of every class, in the order of the classes."""
        rows = []
        for images in self._by_threshold():
            # At or above each threshold, from the lowest: false and true positives.
            false, true = images.flip(0).cumsum(0).flip(0).unbind(1)
            actual = int(images[:, 1].sum())
            predicted, hits = int(false[STEPS // 2] + true[STEPS // 2]), int(true[STEPS // 2])
            precision = true / (true + false).clamp(min=1)
            recall = true / max(actual, 1)
            f1 = 2 * true / (true + false + actual).clamp(min=1)
            best = int(f1.flip(0).argmax()) if actual else STEPS // 2
            falls = recall - torch.cat([recall[1:], recall.new_zeros(1)])
            rows.append(
                LabelRow(
                    actual=actual,
                    predicted=predicted,
                    recall=ratio(hits, actual),
                    precision=ratio(hits, predicted),
                    average_precision=float((falls * precision).sum()) if actual else float("nan"),
                    threshold=(STEPS - best) / STEPS,
                )
            )
        return rows

    def compute(self) -> dict[str, float]:
        """Return the mean average precision, the mean F1 score at 0.5, and the share of images all right at 0.5."""
        rows = self.per_class()
        matches, images = self._counts[-2:].tolist()
        f1 = (
            ratio(2 * row.recall * row.actual, row.actual + row.predicted) if row.actual else float("nan")
            for row in rows
        )
        return {
            "map": mean_of_defined(row.average_precision for row in rows),
            "mean_f1": mean_of_defined(f1),
            "exact_match": ratio(matches, images),
        }

    def decision(self) -> dict[str, Any]:
        """Return the threshold of each class."""
        return {"thresholds": [row.threshold for row in self.per_class()]}

    def _by_threshold(self) -> Tensor:
        """Return the images without and with each class by the highest threshold reached: (classes, steps, 2)."""
        return self._counts[: self._bins].cpu().view(self.num_classes, STEPS + 1, 2)
