"""Families of networks, by the name that ``model.family`` in ``params.yaml`` gives.

To add one, write its `Family` in a file of its own and import it below.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError
from pipeline.models.base import FAMILIES, Family, NetworkSpec
from pipeline.models.choice import ModelParams, find_family, parse_model

# One line for each family: importing it registers it.
from pipeline.models.classifiers.cct import CCTFamily as CCTFamily
from pipeline.models.classifiers.cpv import CPVFamily as CPVFamily
from pipeline.models.classifiers.cvt import CvTFamily as CvTFamily
from pipeline.models.classifiers.fnet import FNetFamily as FNetFamily
from pipeline.models.classifiers.hybrid_vin import HybridViNFamily as HybridViNFamily
from pipeline.models.classifiers.mlp_mixer import MLPMixerFamily as MLPMixerFamily
from pipeline.models.classifiers.mobilenet_v2 import MobileNetV2Family as MobileNetV2Family
from pipeline.models.classifiers.resnet import ResNetFamily as ResNetFamily
from pipeline.models.classifiers.vit import ViTFamily as ViTFamily
from pipeline.models.libraries.smp import SmpFamily as SmpFamily
from pipeline.models.libraries.timm import TimmFamily as TimmFamily
from pipeline.models.segmenters.convmixer import ConvMixerFamily as ConvMixerFamily
from pipeline.models.segmenters.deeplab_v2 import DeepLabV2Family as DeepLabV2Family
from pipeline.models.segmenters.segformer import SegFormerFamily as SegFormerFamily
from pipeline.models.segmenters.unet import UNetFamily as UNetFamily
from pipeline.models.wavemix_lite import WaveMixFamily as WaveMixFamily

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FAMILIES",
    "Family",
    "ModelParams",
    "NetworkSpec",
    "build_network",
    "check_network",
    "find_family",
    "parse_model",
]


def build_network(model: Family, spec: NetworkSpec) -> nn.Module:
    """Return the network of ``model`` for ``spec``, on the CPU and in training mode.

    It takes float (B, channels, H, W), normalised, and returns logits: (B, outputs), or (B, outputs, H, W) where
    ``spec.spatial``.

    Raises:
        UserError: see `check_network`.
    """
    check_network(model, spec)
    return model.build(spec)


def check_network(model: Family, spec: NetworkSpec) -> None:
    """Refuse a network that cannot be had, before anything is built.

    Raises:
        UserError: its library is not installed, or the task, the size of the images or a key does not suit it.
    """
    require(model)
    able = [
        name for name, family in FAMILIES.items() if (family.per_pixel if spec.spatial else family.per_image)
    ]
    if model.family not in able:
        asked, offered = ("pixel", "image") if spec.spatial else ("image", "pixel")
        raise UserError(
            f"model.family: got {model.family}, which answers once per {offered}; for one answer per {asked} take "
            f"one of {', '.join(able)}"
        )
    if spec.memory == "lean" and not model.lean:
        lean = [name for name, family in FAMILIES.items() if family.lean]
        raise UserError(
            f"train.memory: got lean, which {model.family} does not know; take default, or one of {', '.join(lean)}"
        )
    try:
        model.check(spec)
        if model.tried:
            from pipeline.models.dry_run import check_by_running

            check_by_running(model, spec)
    except ValueError as error:
        raise UserError(f"params.yaml: model: {error}") from None


def require(model: Family) -> None:
    """Refuse a family whose libraries are not installed.

    Raises:
        UserError: says how to install them.
    """
    missing = [name for name in model.requires if find_spec(name) is None]
    if missing:
        raise UserError(
            f"model.family: {model.family} needs {', '.join(missing)}, not installed here; "
            "run `uv sync --extra rivals`"
        )
