"""Convolutional vision Transformer (Wu et al., arXiv:2103.15808), from vit-pytorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.models.base import Depth, Family, NetworkSpec, Width, register
from pipeline.models.classifiers.tokens import token_stride

if TYPE_CHECKING:
    from torch import nn


@register
class CvTFamily(Family):
    """CvT for images of any size, in three stages of one width; the paper's row is 128/4x4."""

    per_image: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("vit_pytorch",)
    named: ClassVar[tuple[str, ...]] = ("dim", "depths", "heads")

    family: Literal["cvt"] = "cvt"
    dim: Width = 128
    """Channels."""
    depths: Annotated[tuple[Depth, ...], Field(min_length=3, max_length=3)] = (1, 1, 2)
    """Blocks of each stage."""
    heads: Width = 4
    """Heads of the attention, of 64 channels each."""
    mlp_ratio: Width = 2
    """Width of the MLP's hidden layer over ``dim``."""

    @property
    def label(self) -> str:
        """``CvT-128/4x4``."""
        return f"CvT-{self.dim}/{sum(self.depths)}x{self.heads}"

    @property
    def head(self) -> tuple[str, ...]:
        """The linear layer."""
        return ("to_logits.",)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return vit-pytorch's network; only its first convolution has a stride."""
        from vit_pytorch.cvt import CvT

        keywords: dict[str, int] = {}
        for stage, depth in enumerate(self.depths, start=1):
            keywords |= {
                f"s{stage}_emb_dim": self.dim,
                f"s{stage}_emb_kernel": 3,
                f"s{stage}_emb_stride": token_stride(spec.size) if stage == 1 else 1,
                f"s{stage}_proj_kernel": 3,
                f"s{stage}_kv_proj_stride": 1,
                f"s{stage}_heads": self.heads,
                f"s{stage}_depth": depth,
                f"s{stage}_mlp_mult": self.mlp_ratio,
            }
        network: nn.Module = CvT(num_classes=spec.outputs, channels=spec.channels, dropout=0.0, **keywords)
        return network

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the stages."""
        return {f"stage {stage}": network.get_submodule(f"layers.{stage - 1}") for stage in (1, 2, 3)}
