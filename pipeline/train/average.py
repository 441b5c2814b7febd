"""An exponential moving average of a network's weights (``train.ema``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage(AveragedModel):
    """torch's average of weights and buffers, updated by one operation for all of them.

    `AveragedModel` lists, groups and checks some hundred tensors at every step, which takes the host longer than a
    small network takes a GPU. Counters, such as batch norm's, are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.share = 1 - decay
        """Of the newest weights in the average."""
        pairs = list(zip(_tensors(self.module), _tensors(network), strict=True))
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._newest = [newest for average, newest in pairs if average.is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:  # noqa: ARG002
        """Take in the weights of ``model``, the network that this average was made for. Only queues work on a GPU."""
        if self.n_averaged > 0:  # it lies on the host
            torch._foreach_lerp_(self._averages, self._newest, self.share)
        else:
            torch._foreach_copy_(self._averages, self._newest)
        for average, counter in self._counters:
            average.copy_(counter)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
