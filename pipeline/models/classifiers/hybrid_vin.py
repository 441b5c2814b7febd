"""HybridViN (Jeevan and Sethi, arXiv:2107.02239): convolutions, then a transformer with Nystrom attention."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import NetworkSpec, register
from pipeline.models.classifiers.tokens import AttentionKeys, token_stride, vision_transformer

if TYPE_CHECKING:
    from torch import nn


@register
class HybridViNFamily(AttentionKeys):
    """HybridViN for images of one size; the paper's row is 128/4x4."""

    requires: ClassVar[tuple[str, ...]] = ("timm", "nystrom_attention")
    lean: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("dim", "depth", "heads")

    family: Literal["hybrid_vin"] = "hybrid_vin"

    @property
    def label(self) -> str:
        """``HybridViN-128/4x4``."""
        return f"HybridViN-{self.size_label}"

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return timm's transformer behind three convolutions; a token is a pixel of their output."""
        from timm.layers import HybridEmbed

        from pipeline.models.networks.conv_stem import ConvStem
        from pipeline.models.networks.mixing import NystromMixing

        stride = token_stride(spec.size)
        stem = ConvStem(spec.channels, 32, 64, self.dim, stride=stride)
        tokens = tuple(-(-side // stride) for side in spec.size)
        return vision_transformer(
            spec,
            patch_size=1,
            embed_dim=self.dim,
            depth=self.depth,
            num_heads=self.heads,
            mlp_ratio=2.0,
            attn_layer=NystromMixing,
            embed_layer=partial(HybridEmbed, stem, proj=False, feature_size=tokens, feature_ratio=stride),
        )
