"""Metrics of a segmentation: mean IoU, pixel accuracy, mean recall."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.data.shards.targets import IGNORE
from pipeline.tasks.metrics import ConfusionMetrics, mean_of_defined, ratio


class SegmentationMetrics(ConfusionMetrics):
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
        """Compute what `names` lists."""
        confusion = self.confusion
        classes = self.per_class()
        return {
            "miou": mean_of_defined(figures.iou for figures in classes),
            "pixel_accuracy": ratio(int(confusion.diagonal().sum()), int(confusion.sum())),
            "mean_class_recall": mean_of_defined(figures.recall for figures in classes),
        }
