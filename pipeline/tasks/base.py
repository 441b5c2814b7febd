"""A task is a head, a loss and metrics; everything else of the pipeline is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.params import TrainParams
from pipeline.tasks.metrics import Metrics

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
