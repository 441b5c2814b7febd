"""ResNet (He et al., arXiv:1512.03385), from torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Family, NetworkSpec, register

if TYPE_CHECKING:
    from torch import nn


@register
class ResNetFamily(Family):
    """ResNet for images of any size; it divides them by 32, with the CIFAR stem by 8."""

    per_image: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("depth", "stem")

    family: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152]
    """Layers with weights."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """imagenet divides the size by 4 (7x7 with stride 2, max pooling), cifar keeps it (3x3 with stride 1, no pooling).
    The paper's counts are those of either; its memory is that of cifar."""

    @property
    def label(self) -> str:
        """The usual name: ``ResNet-18``; with the CIFAR stem ``ResNet-18 (CIFAR stem)``."""
        return f"ResNet-{self.depth}" + (" (CIFAR stem)" if self.stem == "cifar" else "")

    @property
    def head(self) -> tuple[str, ...]:
        """The linear layer."""
        return ("fc.",)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return torchvision's network with the stem."""
        from pipeline.models.networks.resnet import resnet

        return resnet(self.depth, spec.channels, spec.outputs, stem=self.stem)

    def for_inference(self, network: nn.Module) -> nn.Module:
        """Return a copy whose batch norms are merged into its convolutions."""
        from pipeline.models.networks.fusing import without_batch_norm

        return without_batch_norm(network)

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the four stages."""
        return {f"stage {stage}": network.get_submodule(f"layer{stage}") for stage in range(1, 5)}
