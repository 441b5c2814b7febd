"""ConvMixer (Trockman and Kolter, arXiv:2201.09792) from timm, with the head of WaveMix-Lite."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Depth, Family, NetworkSpec, Width, check_tiling, numbered_blocks, register

if TYPE_CHECKING:
    from torch import nn


@register
class ConvMixerFamily(Family):
    """ConvMixer for images of any size that the patches tile; the paper's row is 512/16."""

    per_pixel: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("timm",)
    named: ClassVar[tuple[str, ...]] = ("dim", "depth")

    family: Literal["convmixer"] = "convmixer"
    dim: Width = 512
    """Channels of the blocks, a multiple of ``patch``."""
    depth: Depth = 16
    """Blocks."""
    kernel: Width = 9
    """Side of the depthwise convolutions, odd."""
    patch: Literal[2, 4, 8, 16] = 8
    """Side of a patch in pixels."""

    @property
    def label(self) -> str:
        """``ConvMixer-512/16``."""
        return f"ConvMixer-{self.dim}/{self.depth}"

    def check(self, spec: NetworkSpec) -> None:
        """Refuse widths that the head cannot halve, and patches that do not tile the image."""
        if self.dim % self.patch:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of patch, {self.patch}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        check_tiling(self.patch, spec.size)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return a `pipeline.models.networks.convmixer.ConvMixerSegmenter`."""
        from pipeline.models.networks.convmixer import ConvMixerSegmenter

        return ConvMixerSegmenter(
            spec.channels,
            spec.outputs,
            dim=self.dim,
            depth=self.depth,
            kernel=self.kernel,
            patch=self.patch,
        )

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the blocks."""
        return numbered_blocks(network.get_submodule("body.blocks"))
