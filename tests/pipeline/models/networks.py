"""What tests of networks share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pipeline.models import NetworkSpec


def spec(**changes: Any) -> NetworkSpec:
    """Return the demands of a classification of 10 classes in colour at 32x32, but for ``changes``."""
    demands: dict[str, Any] = {"spatial": False, "outputs": 10, "channels": 3, "size": (32, 32)}
    return NetworkSpec(**(demands | changes))


def count(network: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def torchsummary_count(network: nn.Module) -> int:
    """Return the number of weights as torchsummary has it, and with it the paper.

    It counts the ``weight`` and ``bias`` of modules: no class token, no learnt positions.
    """
    values = [getattr(module, key, None) for module in network.modules() for key in ("weight", "bias")]
    return sum(value.numel() for value in values if isinstance(value, Tensor))
