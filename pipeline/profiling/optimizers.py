"""The optimisers of training phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.params import Phase


def build_optimizer(phase: Phase, model: nn.Module, decay_all: bool) -> torch.optim.Optimizer:
    """Return the optimiser of a phase for the parameters of ``model`` that are trained, in torch's fused form."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if not decay_all:
        # Biases and normalisation have one dimension.
        groups = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
    return OPTIMIZERS[phase.optimizer](groups, phase)


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
