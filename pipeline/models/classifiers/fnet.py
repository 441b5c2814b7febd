"""FNet (Lee-Thorp et al., arXiv:2105.03824) on patches: timm's transformer with a Fourier transform for attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import NetworkSpec, Ratio, register
from pipeline.models.classifiers.tokens import PatchKeys, TokenKeys, vision_transformer

if TYPE_CHECKING:
    from torch import nn


@register
class FNetFamily(TokenKeys, PatchKeys):
    """FNet for images of one size; the paper names it in section 4.2."""

    requires: ClassVar[tuple[str, ...]] = ("timm",)
    lean: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("dim", "depth", "patch")

    family: Literal["fnet"] = "fnet"
    mlp_ratio: Ratio = 2.0
    """Width of the MLP's hidden layer over ``dim``."""

    @property
    def label(self) -> str:
        """``FNet-128/4``, with the patch where one is set."""
        return f"FNet-{self.dim}/{self.depth}{self.patch_label}"

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return timm's network with `FourierMixing`, which has no heads."""
        from pipeline.models.networks.mixing import FourierMixing

        return vision_transformer(
            spec,
            patch_size=self.patch_side(spec.size),
            embed_dim=self.dim,
            depth=self.depth,
            num_heads=1,
            mlp_ratio=self.mlp_ratio,
            attn_layer=FourierMixing,
        )
