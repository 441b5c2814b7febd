"""DeepLabV2 (Chen et al., arXiv:1606.00915) on torchvision's ResNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Family, NetworkSpec, register

if TYPE_CHECKING:
    from torch import nn


@register
class DeepLabV2Family(Family):
    """DeepLabV2 for images of any size, without its conditional random field; the paper's row is ResNet-101."""

    per_pixel: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("depth",)

    family: Literal["deeplab_v2"] = "deeplab_v2"
    depth: Literal[50, 101, 152] = 101
    """Layers with weights of the ResNet."""

    @property
    def label(self) -> str:
        """``DeepLabV2 ResNet-101``."""
        return f"DeepLabV2 ResNet-{self.depth}"

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return a `pipeline.models.networks.deeplab_v2.DeepLabV2`."""
        from pipeline.models.networks.deeplab_v2 import DeepLabV2

        return DeepLabV2(self.depth, spec.channels, spec.outputs)

    def for_inference(self, network: nn.Module) -> nn.Module:
        """Return a copy whose batch norms are merged into its convolutions."""
        from pipeline.models.networks.fusing import without_batch_norm

        return without_batch_norm(network)

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the four stages of the ResNet."""
        return {f"stage {stage}": network.get_submodule(f"body.layer{stage}") for stage in range(1, 5)}
