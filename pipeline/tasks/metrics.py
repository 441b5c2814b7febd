"""Metrics that count on the device, batch by batch, are reduced once over ranks and divided once at the end.

All counts are integers, so the values do not depend on the batch size, the order of the samples, or the
number of processes that share them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks, as ``functools.partial(accelerator.reduce, reduction="sum")`` does."""


class ClassMetrics(NamedTuple):
    """Values of one class, from the confusion matrix; NaN where nothing defines one."""

    actual: int
    """Samples or pixels of this class in the truth."""
    predicted: int
    """Samples or pixels that were taken for this class."""
    recall: float
    precision: float
    iou: float


class Metrics(ABC):
    """Counts of a task, as one int64 vector on ``device``, and the values that they give.

    Args:
        num_classes: number of classes.
        counts: number of counts.
    """

    names: tuple[str, ...]
    """The keys of `compute`, the most telling one first."""

    def __init__(self, num_classes: int, counts: int, device: torch.device | str = "cpu") -> None:
        self.num_classes = num_classes
        self._counts = torch.zeros(counts, dtype=torch.int64, device=device)

    @abstractmethod
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch; never waits for the device."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return values between 0 and 1 by name; NaN when nothing was counted."""

    @abstractmethod
    def per_class(self) -> Sequence[Any]:
        """Return a named tuple of values for every class, in the order of the classes.

        All have ``actual`` and ``predicted``, counts of samples or pixels.
        """

    @property
    @abstractmethod
    def confusion(self) -> Tensor:
        """Samples or pixels of each class (row) that were taken for each class (column), int64 on the CPU."""

    @property
    @abstractmethod
    def totals(self) -> Tensor:
        """Samples or pixels of each class in the truth, int64 (classes,) on the CPU."""

    def decision(self) -> dict[str, list[float]]:
        """Return what a prediction needs to know besides the logits; it is kept with the network."""
        return {}

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the counts of all ranks; call it once, on every rank, also on one that saw no batch."""
        self._counts = sum_over_ranks(self._counts)


class ConfusionMetrics(Metrics):
    """Metrics around a confusion matrix.

    The first ``num_classes**2`` counts are the confusion matrix, row = truth, column = prediction. Then come
    the positions whose target is ignored, those whose target is no class at all, and the task's own counts.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu", extra: int = 0) -> None:
        self._cells = num_classes**2
        super().__init__(num_classes, self._cells + 2 + extra, device)

    @property
    def confusion(self) -> Tensor:
        """The confusion matrix, int64 (classes, classes) on the CPU, row = truth, column = prediction.

        Raises:
            ValueError: a target was neither a class nor ignored.
        """
        outside = int(self._counts[self._cells + 1])
        if outside:
            raise ValueError(f"{outside} targets are not classes 0 to {self.num_classes - 1}")
        return self._counts[: self._cells].cpu().view(self.num_classes, self.num_classes)

    @property
    def totals(self) -> Tensor:
        """Samples or pixels of each class in the truth, int64 (classes,) on the CPU."""
        return self.confusion.sum(1)

    def per_class(self) -> list[ClassMetrics]:
        """Return the values of every class, in the order of the classes."""
        confusion = self.confusion
        return [
            ClassMetrics(
                actual=count,
                predicted=predicted,
                recall=ratio(hits, count),
                precision=ratio(hits, predicted),
                iou=ratio(hits, count + predicted - hits),
            )
            for hits, count, predicted in zip(
                confusion.diagonal().tolist(),
                confusion.sum(1).tolist(),
                confusion.sum(0).tolist(),
                strict=True,
            )
        ]

    def _count_confusion(self, target: Tensor, prediction: Tensor, ignore: int | None) -> None:
        """Add ``target`` and ``prediction``, integers of equal shape, to the confusion matrix."""
        target = target.long()
        cell = target * self.num_classes + prediction
        is_class = (target >= 0) & (target < self.num_classes)
        cell = torch.where(is_class, cell, self._cells + 1)
        if ignore is not None:
            cell = cell.masked_fill(target == ignore, self._cells)
        # scatter_add_, not bincount: bincount waits for the device to learn the largest value.
        cell = cell.flatten()
        self._counts.scatter_add_(0, cell, torch.ones_like(cell))


class Mean:
    """A weighted mean of scalars that stay on the device, such as the loss over batches of unequal size."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        # float64, except on MPS, which has none
        precise = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self._sums = torch.zeros(2, dtype=precise, device=device)

    def update(self, value: Tensor, weight: int | Tensor) -> None:
        """Add the mean ``value`` (a scalar tensor) of ``weight`` samples."""
        self._sums[0] += value.detach() * weight
        self._sums[1] += weight

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the sums of all ranks; call it once, on every rank."""
        self._sums = sum_over_ranks(self._sums)

    def compute(self) -> float:
        """Return the mean; NaN when nothing was added."""
        total, weight = self._sums.tolist()
        return ratio(total, weight)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def mean_of_defined(values: Iterable[float]) -> float:
    """Return the mean of those that are not NaN."""
    defined = [value for value in values if not math.isnan(value)]
    return ratio(sum(defined), len(defined))


METRIC_LABELS = {
    "top1": "top-1",
    "top5": "top-5",
    "miou": "mIoU",
    "map": "mAP",
    "ece": "expected calibration error",
    "ece_calibrated": "expected calibration error at the fitted temperature",
}
"""What readers call the metrics whose names do not say it."""
