"""The optimisers of training phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.params import Phase

FACTOR = "lr_factor"
"""Key of a parameter group: the factor of the phase's learning rate for it; 1 without."""


def build_optimizer(
    phase: Phase, model: nn.Module, decay_all: bool, head: tuple[str, ...]
) -> torch.optim.Optimizer:
    """Return the optimiser of a phase for the parameters of ``model`` that are trained, in torch's fused form.

    Args:
        decay_all: decay biases and normalisation too.
        head: prefixes of the names of the head's parameters; ``phase.backbone_lr`` is for all others.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = 1.0 if name.startswith(head) else phase.backbone_lr
            decayed = decay_all or parameter.ndim > 1  # biases and normalisation have one dimension
            groups.setdefault((factor, decayed), []).append(parameter)
    options: list[dict[str, Any]] = [
        {"params": parameters, FACTOR: factor, **({} if decayed else {"weight_decay": 0.0})}
        for (factor, decayed), parameters in groups.items()
    ]
    optimizer = OPTIMIZERS[phase.optimizer](options, phase)
    set_learning_rate(optimizer, phase.lr)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters, times their group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)


def _adamw(groups: list[dict[str, Any]], phase: Phase) -> torch.optim.Optimizer:
    decay = 0.01 if phase.weight_decay is None else phase.weight_decay
    return torch.optim.AdamW(
        groups, lr=phase.lr, betas=phase.betas, eps=phase.eps, weight_decay=decay, fused=True
    )


def _sgd(groups: list[dict[str, Any]], phase: Phase) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups, lr=phase.lr, momentum=phase.momentum, weight_decay=phase.weight_decay or 0.0, fused=True
    )


OPTIMIZERS = {"adamw": _adamw, "sgd": _sgd}
