"""The contract of a task: what is learned, how it is judged, and how an answer is read from the logits.

A task is one file; everything else of the pipeline is the same for all of them. What lies in the shards is its target
kind (`pipeline.data.shards.targets`). Plotting is imported where a plot is drawn: training draws none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.checkpoints.trained import Trained
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import Decoded
from pipeline.params import TrainParams
from pipeline.tasks.losses import ClassWeights
from pipeline.tasks.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.tasks.examples import Examples

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits, target) -> the sum of the losses of the targets, a scalar on the device."""
Size = tuple[int, int]
TOP = 5
"""Classes named for an image."""


@dataclass(frozen=True)
class Prediction:
    """The answer to one image."""

    classes: list[tuple[str, float]]
    """Names with their probabilities, or with their shares of the image, the largest first."""
    mask: NDArray[np.uint8] | None = None
    """uint8 (H, W) in train ids at the image's own size, 255 where the network did not look."""
    chosen: tuple[str, ...] = ()
    """Classes taken to be present, where there may be any number of them."""

    def first(self, count: int | None) -> Prediction:
        """Return the prediction with the ``count`` largest classes alone, or as many as were chosen.

        Args:
            count: None for `TOP`, or of a mask all.
        """
        if count is None:
            count = TOP if self.mask is None else len(self.classes)
        return replace(self, classes=self.classes[: max(count, len(self.chosen))])


class Task(ABC):
    """One task; it has no state."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """The metric that picks the best checkpoint; higher is better."""
    class_metric: ClassVar[str]
    """The column of `Metrics.per_class` that is plotted and logged."""
    class_label: ClassVar[str]
    """What to call it."""
    class_mean: ClassVar[str]
    """The metric that is its mean over the classes."""
    mixes: ClassVar[bool] = False
    """The loss takes the shares of several classes in an image (``train.mix``)."""
    calibrates: ClassVar[bool] = False
    """Its probabilities can be made honest by a temperature (``train.calibrate``)."""
    weighs: ClassVar[bool] = True
    """The loss weighs classes (``train.class_weight_power``)."""
    overlaps: ClassVar[bool] = False
    """The loss may count how far masks overlap (``train.dice``)."""
    shown_samples: ClassVar[int] = 32
    """Prepared samples in a grid."""
    answer_columns: ClassVar[Mapping[str, str]]
    """Columns of a served answer: a string, a double, or lists of either (names, values)."""

    def outputs(self, num_classes: int) -> int:
        """Return the number of logits per image or pixel."""
        return num_classes

    @abstractmethod
    def loss(self, params: TrainParams, manifest: Manifest) -> Loss:
        """Return the loss that ``params`` describe for the data of ``manifest``."""

    @abstractmethod
    def count(self, target: Tensor) -> Tensor:
        """Return how many targets have a loss, a scalar on their device; never waits for it."""

    @abstractmethod
    def metrics(self, num_classes: int, device: torch.device | str = "cpu") -> Metrics:
        """Return metrics that have counted nothing yet."""

    @abstractmethod
    def decide(self, logits: Tensor, sizes: Sequence[Size], trained: Trained) -> list[Prediction]:
        """Return the answer to each image.

        Args:
            logits: float (B, outputs), or (B, outputs, h, w).
            sizes: height and width of each image as it was before it was resized.
            trained: the network's description.
        """

    def probability(self, logits: Tensor, index: int, trained: Trained) -> Tensor | None:  # noqa: ARG002
        """Return the probability of class ``index`` for each image, float (B,); None where images have no class."""
        return None

    @abstractmethod
    def record(self, prediction: Prediction) -> dict[str, Any]:
        """Return ``prediction`` as JSON-able values, without its mask."""

    @abstractmethod
    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """Return the `answer_columns` of ``prediction``; a mask is put in by the caller."""

    @abstractmethod
    def examples(self, manifest: Manifest, samples: int) -> Examples[Any]:
        """Return a collector of a split's most telling samples."""

    def plots(self, metrics: Metrics) -> dict[str, Figure]:  # noqa: ARG002
        """Return plots that no other task has, by name."""
        return {}

    @abstractmethod
    def draw_examples(self, examples: Examples[Any], manifest: Manifest, split: str) -> dict[str, Figure]:
        """Return the grids ``predictions`` and, where there are any, ``mistakes``."""

    @abstractmethod
    def draw_samples(self, samples: Sequence[Decoded], manifest: Manifest) -> Figure:
        """Return a grid of prepared samples with their targets."""


def class_weights(params: TrainParams, manifest: Manifest) -> ClassWeights | None:
    """Return the weights of the classes that ``params`` ask for, from the train split's histogram."""
    if params.class_weight_power == 0 or "train" not in manifest.splits:
        return None
    return ClassWeights(manifest.split("train").histogram, params.class_weight_power)


def largest_first(values: Tensor, names: Sequence[str]) -> list[tuple[str, float]]:
    """Return ``values``, float (classes,), with their names, the largest first."""
    top, places = values.topk(len(names))
    return [(names[place], value) for place, value in zip(places.tolist(), top.tolist(), strict=True)]


def named_values(prediction: Prediction, name: str) -> list[dict[str, Any]]:
    """Return the classes of ``prediction`` as JSON-able rows, the values rounded and called ``name``."""
    return [{"class": label, name: round(value, 6)} for label, value in prediction.classes]
