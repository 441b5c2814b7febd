"""SegFormer (Xie et al., arXiv:2105.15203), from segmentation-models-pytorch.

The library's file of the encoder carries NVIDIA's source code licence, which allows research and evaluation only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Family, NetworkSpec, check_tiling, register

if TYPE_CHECKING:
    from torch import nn

STRIDE = 32
"""Pixels between the encoder's last maps."""


@register
class SegFormerFamily(Family):
    """SegFormer for images of any size that 32 divides; the paper's row is B0."""

    per_pixel: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("segmentation_models_pytorch",)
    named: ClassVar[tuple[str, ...]] = ("version",)

    family: Literal["segformer"] = "segformer"
    version: Literal["b0", "b1", "b2", "b3", "b4", "b5"] = "b0"
    """Size of the encoder."""

    @property
    def label(self) -> str:
        """``SegFormer-B0``."""
        return f"SegFormer-{self.version.upper()}"

    @property
    def head(self) -> tuple[str, ...]:
        """The last convolution."""
        return ("segmentation_head.",)

    def check(self, spec: NetworkSpec) -> None:
        """Refuse images that 32 does not divide."""
        check_tiling(STRIDE, spec.size)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return the library's network."""
        from segmentation_models_pytorch import Segformer

        network: nn.Module = Segformer(
            f"mit_{self.version}", encoder_weights=None, in_channels=spec.channels, classes=spec.outputs
        )
        return network

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the four stages of the encoder."""
        return {f"stage {stage}": network.get_submodule(f"encoder.norm{stage}") for stage in range(1, 5)}
