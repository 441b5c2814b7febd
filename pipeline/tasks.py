"""A task is a head, a loss and metrics; everything else of the pipeline is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline import losses
from pipeline.manifest import Manifest
from pipeline.metrics import Classification, Metrics, Segmentation
from pipeline.params import TrainParams

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(logits, target) -> (sum of losses, number of targets that count), both scalars on the device."""


@dataclass(frozen=True)
class Task:
    """How one task is learned and judged."""

    name: str
    outputs: Callable[[int], int]
    """Channels of the head, given the number of classes."""
    loss: Callable[[TrainParams], Loss]
    metrics: Callable[[int, torch.device], Metrics]
    metric: str
    """The figure that picks the best checkpoint; higher is better."""


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


def normalise(image: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """The network's input: uint8 (B, H, W, C) in [0, 255] to float32 (B, C, H, W), channels last in memory.

    ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1].
    """
    scale = torch.tensor([1 / (255 * s) for s in std], device=image.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=image.device)
    return torch.addcmul(shift, image.float(), scale).permute(0, 3, 1, 2)


def class_logits(logits: Tensor, num_classes: int) -> Tensor:
    """The logits of the classes alone, (B, K) or (B, K, H, W), without the output for void."""
    return logits[:, :num_classes]
