"""Batch norm's statistics, computed anew instead of averaged while the weights moved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.device import precise_type

Norm = nn.modules.batchnorm._BatchNorm


def batch_norms(network: nn.Module) -> list[Norm]:
    """Return the batch norms of ``network`` that keep statistics for evaluation."""
    return [
        module for module in network.modules() if isinstance(module, Norm) and module.running_mean is not None
    ]


@torch.no_grad()
def recompute_statistics(
    network: nn.Module, batches: Iterable[Tensor], sum_over_ranks: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Give each batch norm of ``network`` the mean and the variance of its inputs over all of ``batches``.

    In training every norm normalises by its batch, and what it keeps for evaluation is a running average that lags
    behind weights that move; through stacked blocks the lag multiplies. Here the weights stand still, each norm
    normalises by its batch, and the statistics are those of all batches pooled (Wu and Johnson 2021, section 3).
    Everything but the norms is in evaluation mode, where the statistics will serve: without dropout.

    Leaves the network in evaluation mode. Draws no random numbers.

    Args:
        batches: float (B, C, H, W), as the network takes them.
        sum_over_ranks: adds a tensor up over the processes, each of which passes its own part of every batch.
    """
    network.eval()
    norms = batch_norms(network)
    kept = [copy.deepcopy(norm.num_batches_tracked) for norm in norms]  # of the training; a pass here is none
    sums: dict[Norm, Tensor] = {}
    hooks = [norm.register_forward_pre_hook(partial(_add, sums)) for norm in norms]
    try:
        for norm in norms:
            norm.train()
        for images in batches:
            network(images)
    finally:
        network.eval()
        for hook in hooks:
            hook.remove()
    for norm, tracked in zip(norms, kept, strict=True):
        norm.num_batches_tracked = tracked
        if norm in sums:  # a norm that no input reached keeps what it has
            count, first, second = sums[norm] if sum_over_ranks is None else sum_over_ranks(sums[norm])
            mean = first / count
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_((second / count - mean.square()).clamp(min=0) * count / (count - 1))


def _add(sums: dict[Norm, Tensor], norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Add to the norm's ``sums``, (3, C): the number of its inputs, their sum, the sum of their squares."""
    assert isinstance(norm, Norm)
    x: Tensor = inputs[0]
    variance, mean = torch.var_mean(x.float(), [0, *range(2, x.ndim)], correction=0)
    precise = precise_type(x.device)
    mean, variance = mean.to(precise), variance.to(precise)
    count = torch.full_like(mean, x.numel() // x.shape[1])
    batch = torch.stack([count, count * mean, count * (variance + mean.square())])
    sums[norm] = sums[norm] + batch if norm in sums else batch
