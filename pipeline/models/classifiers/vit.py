"""Vision Transformer (Dosovitskiy et al., arXiv:2010.11929), from timm; ViT-Lite is one with small patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import NetworkSpec, Ratio, register
from pipeline.models.classifiers.tokens import AttentionKeys, PatchKeys, vision_transformer

if TYPE_CHECKING:
    from torch import nn


@register
class ViTFamily(AttentionKeys, PatchKeys):
    """ViT for images of one size; the paper's rows are 128/4x4, ViT-Lite 256/6x4 (patch 4) and 384/12x6."""

    requires: ClassVar[tuple[str, ...]] = ("timm",)
    lean: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("dim", "depth", "heads", "patch")

    family: Literal["vit"] = "vit"
    mlp_ratio: Ratio = 2.0
    """Width of the MLP's hidden layer over ``dim``."""
    qkv_bias: bool = False
    """Give queries, keys and values a bias; the paper's rows have none."""

    @property
    def label(self) -> str:
        """``ViT-128/4x4``, with the patch where one is set."""
        return f"ViT-{self.size_label}{self.patch_label}"

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return timm's network; its attention is fused where the device has a kernel."""
        return vision_transformer(
            spec,
            patch_size=self.patch_side(spec.size),
            embed_dim=self.dim,
            depth=self.depth,
            num_heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            qkv_bias=self.qkv_bias,
        )
