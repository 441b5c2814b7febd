"""Any number of classes per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pipeline.checkpoints.trained import Trained
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import Decoded
from pipeline.params import TrainParams
from pipeline.tasks import losses
from pipeline.tasks.base import Loss, Prediction, Size, Task, largest_first, named_values
from pipeline.tasks.multilabel_metrics import MultilabelMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.tasks.examples import Examples


class Multilabel(Task):
    """Binary cross-entropy of each class; the best checkpoint by mean average precision.

    A class is taken to be present from its own threshold on: the one with the best F1 score on the validation split,
    which is kept with the network (``Trained.decision``).
    """

    name = "multilabel"
    metric = "map"
    weighs = False
    class_metric, class_label, class_mean = "average_precision", "Average precision", "map"
    answer_columns = {"labels": "names", "classes": "names", "probabilities": "values"}  # noqa: RUF012 - never changed

    def loss(self, params: TrainParams, manifest: Manifest) -> Loss:  # noqa: ARG002
        return lambda logits, target: losses.binary_cross_entropy(logits, target, params.label_smoothing)

    def count(self, target: Tensor) -> Tensor:
        return losses.count_images(target)

    def metrics(self, num_classes: int, device: torch.device | str = "cpu") -> MultilabelMetrics:
        return MultilabelMetrics(num_classes, device=device)

    def decide(self, logits: Tensor, sizes: Sequence[Size], trained: Trained) -> list[Prediction]:  # noqa: ARG002
        names = trained.class_names
        thresholds = torch.tensor(trained.decision.get("thresholds", [0.5] * len(names)))
        probabilities = logits.float().sigmoid().cpu()
        present = probabilities >= thresholds
        return [
            Prediction(
                largest_first(row, names),
                chosen=tuple(name for name, is_there in zip(names, mine.tolist(), strict=True) if is_there),
            )
            for row, mine in zip(probabilities, present, strict=True)
        ]

    def probability(self, logits: Tensor, index: int, trained: Trained) -> Tensor:  # noqa: ARG002
        return logits.float().sigmoid()[:, index]

    def record(self, prediction: Prediction) -> dict[str, Any]:
        return {"labels": list(prediction.chosen), "classes": named_values(prediction, "probability")}

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        names, values = map(list, zip(*prediction.classes, strict=True))
        return {"labels": list(prediction.chosen), "classes": names, "probabilities": values}

    def examples(self, manifest: Manifest, samples: int) -> Examples[Any]:
        from pipeline.tasks.examples import Tags

        return Tags(-(-samples // 32), worst=16, class_names=manifest.class_names)

    def draw_examples(self, examples: Examples[Any], manifest: Manifest, split: str) -> dict[str, Figure]:  # noqa: ARG002
        from pipeline.plotting import grids

        drawn = {"predictions": grids.tagged(examples.spread, f"Predictions on {split} images")}
        if wrong := [example for _, example in examples.mistakes]:
            drawn["mistakes"] = grids.tagged(wrong, "The worst mistakes: most classes wrong")
        return drawn

    def draw_samples(self, samples: Sequence[Decoded], manifest: Manifest) -> Figure:
        from pipeline.plotting import grids

        names = manifest.class_names
        labels = [", ".join(names[i] for i in np.flatnonzero(target)) or "none" for _, target in samples]
        return grids.labelled([image for image, _ in samples], labels, "Samples of the train split")
