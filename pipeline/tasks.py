"""A task is a head, a loss and metrics; everything else of the pipeline is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

import wavemix
from pipeline import losses
from pipeline.errors import UserError
from pipeline.loader import Batch
from pipeline.manifest import Manifest
from pipeline.metrics import Classification, Mean, Metrics, Reduce, Segmentation
from pipeline.params import Params, TrainParams

LARGEST_SMALL_IMAGE = 96
"""Pixels on the shorter side up to which the stem keeps the size."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits, target) -> the sum of the losses of the targets, a scalar on the device."""


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


def build_network(params: Params, manifest: Manifest) -> wavemix.WaveMixLite:
    """The network of ``params.model`` for the classes and channels of ``manifest``.

    Raises:
        UserError: the sizes do not fit one another, or the images.
    """
    try:
        config = wavemix.ModelConfig(
            task=manifest.task,
            num_classes=task_of(manifest).outputs(manifest.num_classes),
            in_channels=manifest.channels,
            memory=params.train.memory,
            **params.model.model_dump(exclude={"stem_stride"}),
            stem_stride=params.model.stem_stride or _stem_stride(params, manifest),
        )
        wavemix.check_image_size(config, *manifest.size)
    except ValueError as error:
        raise UserError(f"params.yaml: model: {error}") from None
    return wavemix.build_model(config)


def place(network: wavemix.WaveMixLite, device: torch.device) -> wavemix.WaveMixLite:
    """``network`` itself, on ``device`` and channels last, as it trains fastest.

    1x1 kernels, the same bytes in both formats, keep plain strides: their gradients have those, and
    DistributedDataParallel would copy gradients of other strides at every step, with a warning.
    """
    network.to(device).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.to(memory_format=torch.contiguous_format)
    return network


def _stem_stride(params: Params, manifest: Manifest) -> int:
    """What the paper used: 1 up to 96 pixels (STL-10), 2 beyond and for Cityscapes (section 4.3)."""
    large = manifest.task == "segmentation" or min(manifest.size) > LARGEST_SMALL_IMAGE
    return 2 if large and params.model.patch_size is None else 1


def normalise(image: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """The network's input: uint8 (B, H, W, C) in [0, 255] to float32 (B, C, H, W), channels last in memory.

    ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1].
    """
    shift, scale = _shift_and_scale(tuple(mean), tuple(std), image.device)
    return torch.addcmul(shift, image.float(), scale).permute(0, 3, 1, 2)


@lru_cache
def _shift_and_scale(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """What `normalise` adds and multiplies by, copied to the device once: a step must not wait for it."""
    with torch.inference_mode(False):  # what is made in that mode could not be trained with
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
        return shift, torch.tensor([1 / (255 * s) for s in std], device=device)


@torch.no_grad()
def measure(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    manifest: Manifest,
    loss: Loss,
    device: torch.device,
    sum_over_ranks: Reduce | None = None,
    look_on: Callable[[Batch, Tensor], None] | None = None,
) -> tuple[Metrics, Mean]:
    """The task's metrics and the mean loss over ``batches``, counted per batch and reduced over ranks once.

    ``forward`` takes what `normalise` gives and returns logits; the caller puts the network in evaluation mode.
    ``look_on`` is shown every batch with its logits.
    """
    metrics = task_of(manifest).metrics(manifest.num_classes, device)
    mean_loss = Mean(device)
    for batch in batches:
        target = batch.target.to(device).long()
        logits = forward(normalise(batch.image.to(device), manifest.mean, manifest.std)).float()
        count = losses.count(target)
        mean_loss.update(loss(logits, target) / count.clamp(min=1), count)
        metrics.update(logits, target)
        if look_on is not None:
            look_on(batch, logits)
    if sum_over_ranks is not None:
        metrics.reduce(sum_over_ranks)
        mean_loss.reduce(sum_over_ranks)
    return metrics, mean_loss
