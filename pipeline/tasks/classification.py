"""One class per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipeline.checkpoints.trained import Trained
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import Decoded
from pipeline.params import TrainParams
from pipeline.tasks import losses
from pipeline.tasks.base import (
    Loss,
    Prediction,
    Size,
    Task,
    class_weights,
    largest_first,
    named_values,
)
from pipeline.tasks.calibration import temperature_of
from pipeline.tasks.classification_metrics import ClassificationMetrics
from pipeline.tasks.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.tasks.examples import Examples


class Classification(Task):
    """Cross-entropy; the best checkpoint by top-1 (paper section 4.3)."""

    name = "classification"
    metric = "top1"
    class_metric, class_label, class_mean = "recall", "Recall", "mean_class_recall"
    answer_columns = {  # noqa: RUF012 - never changed
        "label": "string",
        "probability": "double",
        "classes": "names",
        "probabilities": "values",
    }

    mixes = calibrates = True

    def loss(self, params: TrainParams, manifest: Manifest) -> Loss:
        weights = class_weights(params, manifest)
        return lambda logits, target: losses.cross_entropy(logits, target, params.label_smoothing, weights)

    def count(self, target: Tensor) -> Tensor:
        return losses.count_images(target)

    def metrics(self, num_classes: int, device: torch.device | str = "cpu") -> ClassificationMetrics:
        return ClassificationMetrics(num_classes, device=device)

    def decide(self, logits: Tensor, sizes: Sequence[Size], trained: Trained) -> list[Prediction]:  # noqa: ARG002
        names = trained.class_names
        return [Prediction(largest_first(row, names)) for row in _probabilities(logits, trained).cpu()]

    def probability(self, logits: Tensor, index: int, trained: Trained) -> Tensor:
        return _probabilities(logits, trained)[:, index]

    def record(self, prediction: Prediction) -> dict[str, Any]:
        return {"classes": named_values(prediction, "probability")}

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        names, values = map(list, zip(*prediction.classes, strict=True))
        return {"label": names[0], "probability": values[0], "classes": names, "probabilities": values}

    def examples(self, manifest: Manifest, samples: int) -> Examples[Any]:  # noqa: ARG002
        from pipeline.tasks.examples import Guesses

        return Guesses(-(-samples // 32), worst=16)

    def plots(self, metrics: Metrics) -> dict[str, Figure]:
        from pipeline.plotting import charts

        assert isinstance(metrics, ClassificationMetrics)
        bins = [row for row in metrics.calibration() if row.samples]
        return {
            "calibration": charts.reliability(
                [row.confidence / row.samples for row in bins],
                [row.hits / row.samples for row in bins],
                [row.samples for row in bins],
            )
        }

    def draw_examples(self, examples: Examples[Any], manifest: Manifest, split: str) -> dict[str, Figure]:
        from pipeline.plotting import grids

        names = manifest.class_names
        drawn = {"predictions": grids.guesses(examples.spread, names, f"Predictions on {split} images")}
        if wrong := [example for _, example in examples.mistakes]:
            title = "The worst mistakes: wrong, and most confident"
            drawn["mistakes"] = grids.guesses(wrong, names, title)
        return drawn

    def draw_samples(self, samples: Sequence[Decoded], manifest: Manifest) -> Figure:
        from pipeline.plotting import grids

        labels = [manifest.class_names[int(target)] for _, target in samples]
        return grids.labelled([image for image, _ in samples], labels, "Samples of the train split")


def _probabilities(logits: Tensor, trained: Trained) -> Tensor:
    """Return the probability of each class at the network's temperature, float (B, classes)."""
    return (logits.float() / temperature_of(trained.decision)).softmax(1)
