"""What tests of networks share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pipeline.models import FAMILIES, Family, NetworkSpec, parse_model

SMALL: dict[str, dict[str, Any]] = {
    "wavemix-lite": {"dim": 8, "depth": 1},
    "wavemix": {"dim": 8, "depth": 1, "levels": 2},
    "resnet": {"depth": 18, "stem": "cifar"},
    "mobilenet_v2": {"width": 0.25},
    "vit": {"dim": 16, "depth": 2, "patch": 8},
    "hybrid_vin": {"dim": 16, "depth": 1},
    "cpv": {"dim": 16, "depth": 2},
    "cct": {"dim": 16, "depth": 2},
    "cvt": {"dim": 16, "depths": [1, 1, 1]},
    "mlp_mixer": {"dim": 16, "depth": 2},
    "fnet": {"dim": 16, "depth": 2},
    "unet": {},
    "deeplab_v2": {"depth": 50},
    "segformer": {},
    "convmixer": {"dim": 16, "depth": 2},
    "timm": {"name": "resnet10t"},
    "smp": {"architecture": "FPN", "encoder": "mobilenet_v2"},
}
"""A small network of each family."""


def small(family: str, **changes: Any) -> tuple[Family, NetworkSpec]:
    """Return the keys of a small network of ``family``, and demands that suit it, but for ``changes``."""
    classifies = FAMILIES[family].per_image
    demands = {"spatial": not classifies, "size": (16, 16) if classifies else (32, 32)} | changes
    return parse_model({"family": family, **SMALL[family]}), spec(**demands)


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
