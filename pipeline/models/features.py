"""Maps of what a network makes of an image on its way to the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


@torch.inference_mode()
def feature_maps(network: nn.Module, inspected: Mapping[str, nn.Module], images: Tensor) -> dict[str, Tensor]:
    """Return the output of each module of ``inspected`` for ``images``, in their order: float (B, channels, h, w).

    Tokens become a map where they lie on a grid as wide and high as the images; a class token is left out.

    Args:
        network: in evaluation mode.
        inspected: modules of ``network``, as `Family.inspected` gives them.
        images: float (B, C, H, W), normalised, on the network's device.
    """
    outputs: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(_keeper(outputs, name)) for name, module in inspected.items()]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    height, width = images.shape[-2:]
    return {name: as_map(output, height / width).float() for name, output in outputs.items()}


def _keeper(outputs: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        outputs[name] = output

    return keep


def as_map(output: Tensor, ratio: float) -> Tensor:
    """Return tokens (B, tokens, channels) as (B, channels, h, w), with h / w equal to ``ratio``; maps as they are.

    Raises:
        ValueError: neither the tokens nor all but the first lie on such a grid.
    """
    if output.ndim == 4:
        return output
    for first in (0, 1):
        count = output.shape[1] - first
        height = max(1, round((count * ratio) ** 0.5))
        if count % height == 0 and round(count / height * ratio) == height:
            return output[:, first:].transpose(1, 2).reshape(len(output), -1, height, count // height)
    raise ValueError(f"{output.shape[1]} tokens do not lie on a grid of height over width {ratio:g}")
