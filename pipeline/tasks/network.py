"""The network of an experiment and what it takes as input."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

import wavemix
from pipeline.core.errors import UserError
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params
from pipeline.tasks import task_of

LARGEST_SMALL_IMAGE = 96
"""Pixels on the shorter side up to which the stem keeps the size."""


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
