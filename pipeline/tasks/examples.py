"""Samples of a split that are worth a picture: a few from all over it, and the worst."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pipeline.data.loading.batch import Batch
from pipeline.plotting.grids import Guess, Scene, TaggedImage
from pipeline.tasks.segmentation_metrics import SegmentationMetrics

Example = TypeVar("Example", Guess, Scene, TaggedImage)


class Examples(ABC, Generic[Example]):
    """Collects samples that are worth a picture while a split is measured.

    Args:
        every: keep each ``every``-th sample as an example.
        worst: how many of the worst to keep.
    """

    def __init__(self, every: int, worst: int) -> None:
        self.every, self.worst = max(1, every), worst
        self.spread: list[Example] = []
        self._seen = 0
        # (badness, -number, example): of equally bad ones the first stays, and examples are never compared.
        self._heap: list[tuple[float, int, Example]] = []

    def __call__(self, batch: Batch, logits: Tensor) -> None:
        """Look at one batch and its ``logits``, float (B, K) or (B, K, H, W) on any device."""
        for example, badness in self._look(batch, logits):
            if self._seen % self.every == 0:
                self.spread.append(example)
            if badness is not None:
                heapq.heappush(self._heap, (badness, -self._seen, example))
                if len(self._heap) > self.worst:
                    heapq.heappop(self._heap)
            self._seen += 1

    def merge(self, others: Iterable[Examples[Example]]) -> None:
        """Replace the collected samples with those of all ranks, of which this is one."""
        ranks = list(others)
        self.spread = [example for rank in ranks for example in rank.spread]
        entries = (
            (badness, number, place, example)
            for place, rank in enumerate(ranks)
            for badness, number, example in rank._heap
        )
        best = heapq.nlargest(self.worst, entries, key=lambda entry: entry[:3])
        self._heap = [(badness, number, example) for badness, number, _, example in best]

    @property
    def mistakes(self) -> list[tuple[float, Example]]:
        """Return the worst samples and how bad each is, the worst first."""
        return [(badness, example) for badness, _, example in sorted(self._heap, key=_rank, reverse=True)]

    @abstractmethod
    def _look(self, batch: Batch, logits: Tensor) -> list[tuple[Example, float | None]]:
        """Return each sample as an example, and how bad it is; None when it is right."""


class Guesses(Examples[Guess]):
    """Classified images; a mistake is the worse, the more confident the network was."""

    def _look(self, batch: Batch, logits: Tensor) -> list[tuple[Guess, float | None]]:
        confidence, predicted = logits.float().softmax(1).max(1)
        rows = zip(batch.image, batch.target.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
        return [
            (Guess(image.numpy(), guess, sure, target), None if guess == target else sure)
            for image, target, guess, sure in rows
        ]


class Scenes(Examples[Scene]):
    """Segmented images; one is the worse, the lower its own mIoU."""

    def __init__(self, every: int, worst: int, num_classes: int) -> None:
        super().__init__(every, worst)
        self.num_classes = num_classes

    def _look(self, batch: Batch, logits: Tensor) -> list[tuple[Scene, float | None]]:
        predicted = logits[:, : self.num_classes].argmax(1).to("cpu", torch.uint8)
        found: list[tuple[Scene, float | None]] = []
        for image, target, prediction in zip(batch.image, batch.target, predicted, strict=True):
            own = SegmentationMetrics(self.num_classes)
            own.count(target, prediction)
            iou = own.compute()["miou"]
            scene = Scene(image.numpy(), prediction.numpy(), target.to(torch.uint8).numpy(), iou)
            found.append((scene, None if iou != iou else 1 - iou))
        return found


class Tags(Examples[TaggedImage]):
    """Images with any number of classes; one is the worse, the more classes are wrong at a threshold of 0.5."""

    def __init__(self, every: int, worst: int, class_names: Sequence[str]) -> None:
        super().__init__(every, worst)
        self.class_names = class_names

    def _look(self, batch: Batch, logits: Tensor) -> list[tuple[TaggedImage, float | None]]:
        found: list[tuple[TaggedImage, float | None]] = []
        for image, target, own in zip(batch.image, batch.target.cpu() > 0, (logits > 0).cpu(), strict=True):
            example = TaggedImage(image.numpy(), self._named(own), self._named(target))
            found.append((example, float((own != target).sum()) or None))
        return found

    def _named(self, present: Tensor) -> tuple[str, ...]:
        return tuple(self.class_names[place] for place in present.nonzero()[:, 0].tolist())


def _rank(entry: tuple[float, int, object]) -> tuple[float, int]:
    return entry[:2]
