"""Every network of segmentation-models-pytorch, by its names there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import NetworkSpec, register
from pipeline.models.libraries.pretrained import LibraryKeys, check_known, downloading

if TYPE_CHECKING:
    from torch import nn

TIMM = "tu-"
"""What the library puts before the name of an encoder that comes from timm."""


@register
class SmpFamily(LibraryKeys):
    """A decoder on an encoder, for images of the size that they take."""

    per_pixel: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("segmentation_models_pytorch",)
    named: ClassVar[tuple[str, ...]] = ("architecture", "encoder")

    family: Literal["smp"] = "smp"
    architecture: str
    """The library's name of the decoder in any case, such as ``Unet`` or ``DeepLabV3Plus``."""
    encoder: str
    """The library's name of the encoder, such as ``resnet34``, or ``tu-`` and a name of timm."""

    @property
    def label(self) -> str:
        """``Unet resnet34``."""
        return f"{self.architecture} {self.encoder}"

    @property
    def head(self) -> tuple[str, ...]:
        """The last convolution."""
        return ("segmentation_head.",)

    def check(self, spec: NetworkSpec) -> None:
        """Refuse names that the library does not know."""
        from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING
        from segmentation_models_pytorch.encoders import encoders
        from timm import list_models

        super().check(spec)
        architectures = ", ".join(MODEL_ARCHITECTURES_MAPPING)
        check_known("architecture", self.architecture.lower(), MODEL_ARCHITECTURES_MAPPING, architectures)
        # For what follows tu-, timm itself takes files from anywhere.
        known = {f"{TIMM}{name}" for name in list_models()} | set(encoders)
        allowed = "those of segmentation_models_pytorch.encoders, or tu- and one of timm.list_models()"
        check_known("encoder", self.encoder.partition(".")[0], known, allowed)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return the library's network, its encoder with weights of ImageNet where asked for."""
        from segmentation_models_pytorch import create_model

        weights = True if self.encoder.startswith(TIMM) else "imagenet"
        with downloading(self):
            network: nn.Module = create_model(
                self.architecture,
                self.encoder,
                encoder_weights=weights if self.pretrained else None,
                in_channels=spec.channels,
                classes=spec.outputs,
            )
        return network

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the decoder."""
        return {"decoder": network.get_submodule("decoder")}
