"""MobileNetV2 (Sandler et al., arXiv:1801.04381), from torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.models.base import Family, NetworkSpec, register

if TYPE_CHECKING:
    from torch import nn

LAST_OF_RESOLUTION = {"1/2": 1, "1/4": 3, "1/8": 6, "1/16": 13, "1/32": 18}
"""The last layer whose maps have each share of the image's height and width."""


@register
class MobileNetV2Family(Family):
    """MobileNetV2 for images of any size, which it divides by 32; the paper's row has width 2.0."""

    per_image: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("width",)

    family: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: Annotated[float, Field(ge=0.1, le=16)] = 1.0
    """Factor of all channels."""

    @property
    def label(self) -> str:
        """``MobileNetV2 x2``."""
        return f"MobileNetV2 x{self.width:g}"

    @property
    def head(self) -> tuple[str, ...]:
        """The linear layer."""
        return ("classifier.",)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return torchvision's network with a first convolution for ``spec.channels``."""
        from torch import nn
        from torchvision.models import mobilenet_v2

        network: nn.Module = mobilenet_v2(weights=None, num_classes=spec.outputs, width_mult=self.width)
        stem = network.get_submodule("features.0")
        assert isinstance(stem, nn.Sequential)
        assert isinstance(stem[0], nn.Conv2d)
        stem[0] = nn.Conv2d(spec.channels, stem[0].out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(stem[0].weight, mode="fan_out")
        return network

    def for_inference(self, network: nn.Module) -> nn.Module:
        """Return a copy whose batch norms are merged into its convolutions."""
        from pipeline.models.networks.fusing import without_batch_norm

        return without_batch_norm(network)

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the last layer of each resolution."""
        return {
            share: network.get_submodule(f"features.{number}") for share, number in LAST_OF_RESOLUTION.items()
        }
