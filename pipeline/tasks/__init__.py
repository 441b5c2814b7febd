"""A task is a head, a loss and metrics; everything else of the pipeline is the same for all of them."""

from __future__ import annotations

from pipeline.data.shards.manifest import Manifest
from pipeline.params import TrainParams
from pipeline.tasks import losses
from pipeline.tasks.base import Loss, Task
from pipeline.tasks.classification_metrics import Classification
from pipeline.tasks.segmentation_metrics import Segmentation


def _classification_loss(params: TrainParams) -> Loss:
    return lambda logits, target: losses.cross_entropy(logits, target, params.label_smoothing)


def _segmentation_loss(params: TrainParams) -> Loss:
    return lambda logits, target: losses.focal(logits, target, params.focal_gamma)


TASKS: dict[str, Task] = {
    "classification": Task(
        name="classification",
        outputs=lambda num_classes: num_classes,
        loss=_classification_loss,
        metrics=lambda num_classes, device: Classification(num_classes, device=device),
        metric="top1",
    ),
    # The paper's heads have an output for void beside the 19 classes. Void pixels are ignored, so it is never
    # a target, and it is cut off before a prediction is made.
    "segmentation": Task(
        name="segmentation",
        outputs=lambda num_classes: num_classes + 1,
        loss=_segmentation_loss,
        metrics=lambda num_classes, device: Segmentation(num_classes, device=device),
        metric="miou",
    ),
}


def task_of(manifest: Manifest) -> Task:
    """The task that the shards of ``manifest`` are for."""
    return TASKS[manifest.task]
