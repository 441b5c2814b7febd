"""The way of pixels into any network: normalised, channels last."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def normalise(image: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Convert uint8 (B, H, W, C) in [0, 255] to a network's input: float32 (B, C, H, W), channels last in memory.

    ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1].
    """
    shift, scale = _shift_and_scale(tuple(mean), tuple(std), image.device)
    return torch.addcmul(shift, image.float(), scale).permute(0, 3, 1, 2)


@lru_cache
def _shift_and_scale(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what `normalise` adds and multiplies by, copied to the device once: a step must not wait for it."""
    with torch.inference_mode(False):  # a tensor made in that mode could not be trained with
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
        return shift, torch.tensor([1 / (255 * s) for s in std], device=device)


def place(network: Network, device: torch.device) -> Network:
    """Move ``network`` to ``device`` and its convolutions to channels last, as they train fastest; return it.

    1x1 kernels, the same bytes in both formats, keep plain strides: their gradients have those, and
    DistributedDataParallel would copy gradients of other strides at every step, with a warning.
    """
    network.to(device).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.to(memory_format=torch.contiguous_format)
    return network
