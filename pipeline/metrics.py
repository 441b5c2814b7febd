"""Metrics that count on the device, batch by batch, are reduced once over ranks and divided once at the end.

All counts are integers, so the figures do not depend on the batch size, the order of the samples, or the
number of processes that share them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.manifest import IGNORE

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks, as ``functools.partial(accelerator.reduce, reduction="sum")`` does."""

CALIBRATION_BINS = 15  # Guo et al., 2017, "On Calibration of Modern Neural Networks", section 2
CONFIDENCE_UNIT = 2**24  # confidences are summed in units of 2^-24, the precision of float32 below 1


class ClassFigures(NamedTuple):
    """Figures of one class, from the confusion matrix; NaN where nothing defines one."""

    actual: int
    """Samples or pixels of this class in the truth."""
    predicted: int
    """Samples or pixels that were taken for this class."""
    recall: float
    precision: float
    iou: float


class Metrics(ABC):
    """A confusion matrix and what else a task counts, as one int64 vector on ``device``.

    The first ``num_classes**2`` counts are the confusion matrix, row = truth, column = prediction. Then come
    the positions whose target is ignored, those whose target is no class at all, and the task's own counts.
    """

    names: tuple[str, ...]
    """The keys of `compute`, the most telling one first."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu", extra: int = 0) -> None:
        self.num_classes = num_classes
        self._cells = num_classes**2
        self._counts = torch.zeros(self._cells + 2 + extra, dtype=torch.int64, device=device)

    @abstractmethod
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch; never waits for the device."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Figures between 0 and 1 by name; NaN when nothing was counted."""

    def counts(self) -> Tensor:
        """All counts, int64 of one dimension."""
        return self._counts

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the counts of all ranks; call it once, on every rank, also on one that saw no batch."""
        self._counts = sum_over_ranks(self._counts)

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

    def per_class(self) -> list[ClassFigures]:
        """Figures of every class, in the order of the classes."""
        confusion = self.confusion
        return [
            ClassFigures(
                actual=count,
                predicted=predicted,
                recall=_ratio(hits, count),
                precision=_ratio(hits, predicted),
                iou=_ratio(hits, count + predicted - hits),
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


class Classification(Metrics):
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
        """Whether fewer than five classes are ahead of the target: bool (B,).

        A class is behind when its logit is lower, or equal and later. All others are ahead: NaN never wins.
        """
        value = logits.gather(1, target.clamp(0, self.num_classes - 1).unsqueeze(1))
        later = torch.arange(self.num_classes, device=logits.device) > target.unsqueeze(1)
        behind = (logits < value) | ((logits == value) & later)
        return self.num_classes - 1 - behind.sum(1) < 5

    def compute(self) -> dict[str, float]:
        """See `names`; ``ece`` is the expected calibration error over 15 equal bins of confidence."""
        confusion = self.confusion
        total = int(confusion.sum())
        top5 = int(self._counts[self._cells + 2])
        figures = {
            "top1": _ratio(int(confusion.diagonal().sum()), total),
            "top5": _ratio(top5, total),
            "mean_class_recall": _mean(figures.recall for figures in self.per_class()),
            "ece": _ratio(sum(abs(b.hits - b.confidence) for b in self.calibration()), total),
        }
        return {name: figures[name] for name in self.names}

    def calibration(self) -> list[CalibrationBin]:
        """The reliability diagram's bins, from confidence 0 to 1."""
        rows = self._counts[self._cells + 3 :].view(3, CALIBRATION_BINS).T.tolist()
        return [CalibrationBin(samples, hits, total / CONFIDENCE_UNIT) for samples, hits, total in rows]


class CalibrationBin(NamedTuple):
    """Predictions of like confidence: how many, how many were right, the sum of their confidences."""

    samples: int
    hits: int
    confidence: float


class Segmentation(Metrics):
    """Mean IoU, pixel accuracy and mean recall of the classes, from one confusion matrix over the whole set.

    As in Cityscapes' own evaluation: ignored pixels count nowhere; a class that is neither in the truth nor
    predicted is left out of the mean; one that is only predicted counts as 0.
    """

    names = ("miou", "pixel_accuracy", "mean_class_recall")

    def __init__(self, num_classes: int, ignore: int = IGNORE, device: torch.device | str = "cpu") -> None:
        super().__init__(num_classes, device)
        self.ignore = ignore

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch.

        Args:
            logits: float (B, outputs, H, W); outputs beyond ``num_classes``, as the paper's void, never win.
            target: train ids, uint8 or int64 (B, H, W).
        """
        self.count(target, logits.detach()[:, : self.num_classes].argmax(1))

    def count(self, target: Tensor, prediction: Tensor) -> None:
        """Count masks: ``target`` and ``prediction`` in train ids, uint8 or int64, of equal shape."""
        self._count_confusion(target, prediction, self.ignore)

    def compute(self) -> dict[str, float]:
        """See `names`."""
        confusion = self.confusion
        classes = self.per_class()
        return {
            "miou": _mean(figures.iou for figures in classes),
            "pixel_accuracy": _ratio(int(confusion.diagonal().sum()), int(confusion.sum())),
            "mean_class_recall": _mean(figures.recall for figures in classes),
        }


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
        """The mean; NaN when nothing was added."""
        total, weight = self._sums.tolist()
        return _ratio(total, weight)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean(values: Iterable[float]) -> float:
    """The mean of those that are not NaN."""
    defined = [value for value in values if not math.isnan(value)]
    return _ratio(sum(defined), len(defined))
