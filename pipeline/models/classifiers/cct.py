"""Compact Convolutional Transformer (Hassani et al., arXiv:2104.05704), from vit-pytorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import NetworkSpec, Ratio, numbered_blocks, register
from pipeline.models.classifiers.tokens import AttentionKeys, token_stride

if TYPE_CHECKING:
    from torch import nn


@register
class CCTFamily(AttentionKeys):
    """CCT for images of one size; the paper's row is 128/4x4 with three convolutions."""

    requires: ClassVar[tuple[str, ...]] = ("vit_pytorch",)
    named: ClassVar[tuple[str, ...]] = ("dim", "depth", "heads")

    family: Literal["cct"] = "cct"
    mlp_ratio: Ratio = 4.0
    """Width of the MLP's hidden layer over ``dim``."""

    @property
    def label(self) -> str:
        """``CCT-128/4x4``."""
        return f"CCT-{self.size_label}"

    @property
    def head(self) -> tuple[str, ...]:
        """The linear layer."""
        return ("classifier.fc.",)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return vit-pytorch's network.

        It has one stride for all convolutions; the authors' has a stride in the first only, so that one is set here.
        """
        from torch import nn
        from vit_pytorch.cct import CCT

        stride = token_stride(spec.size)
        height, width = spec.size
        network: nn.Module = CCT(
            img_size=(-(-height // stride), -(-width // stride)),
            embedding_dim=self.dim,
            n_input_channels=spec.channels,
            n_conv_layers=3,
            kernel_size=3,
            stride=1,
            padding=1,
            pooling_kernel_size=3,
            pooling_stride=1,
            pooling_padding=1,
            num_layers=self.depth,
            num_heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            num_classes=spec.outputs,
            positional_embedding="learnable",
        )
        first = network.get_submodule("tokenizer.conv_layers.0.0")
        assert isinstance(first, nn.Conv2d)
        first.stride = (stride, stride)
        return network

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the transformer's blocks."""
        return numbered_blocks(network.get_submodule("classifier.blocks"))
