"""UNet (Ronneberger et al., arXiv:1505.04597), from segmentation-models-pytorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Family, NetworkSpec, numbered_blocks, register

if TYPE_CHECKING:
    from torch import nn


@register
class UNetFamily(Family):
    """UNet for images of any size; its decoder is lighter than that of the paper's rows."""

    per_pixel: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("segmentation_models_pytorch",)
    named: ClassVar[tuple[str, ...]] = ("encoder",)

    family: Literal["unet"] = "unet"
    encoder: Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"] = "resnet18"
    """The network that the encoder is; for others see the family smp."""

    @property
    def label(self) -> str:
        """``UNet resnet18``."""
        return f"UNet {self.encoder}"

    @property
    def head(self) -> tuple[str, ...]:
        """The last convolution."""
        return ("segmentation_head.",)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return the library's network."""
        from segmentation_models_pytorch import Unet

        network: nn.Module = Unet(
            self.encoder, encoder_weights=None, in_channels=spec.channels, classes=spec.outputs
        )
        return network

    def for_inference(self, network: nn.Module) -> nn.Module:
        """Return a copy whose batch norms are merged into its convolutions."""
        from pipeline.models.networks.fusing import without_batch_norm

        return without_batch_norm(network)

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the blocks of the decoder, from coarse to fine."""
        return numbered_blocks(network.get_submodule("decoder.blocks"))
