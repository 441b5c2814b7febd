"""MLP-Mixer (Tolstikhin et al., arXiv:2105.01601), from timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Depth, NetworkSpec, Width, register
from pipeline.models.classifiers.tokens import PatchKeys, TokenKeys, recomputing

if TYPE_CHECKING:
    from torch import nn


@register
class MLPMixerFamily(TokenKeys, PatchKeys):
    """MLP-Mixer for images of one size; the paper's row is 512/8."""

    requires: ClassVar[tuple[str, ...]] = ("timm",)
    lean: ClassVar[bool] = True
    patches: ClassVar[int] = 8
    named: ClassVar[tuple[str, ...]] = ("dim", "depth", "patch")

    family: Literal["mlp_mixer"] = "mlp_mixer"
    dim: Width = 512
    """Width of a token; both MLPs have half of it inside."""
    depth: Depth = 8
    """Blocks."""

    @property
    def label(self) -> str:
        """``MLP-Mixer-512/8``, with the patch where one is set."""
        return f"MLP-Mixer-{self.dim}/{self.depth}{self.patch_label}"

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return timm's network."""
        from timm.models.mlp_mixer import MlpMixer

        network = MlpMixer(
            num_classes=spec.outputs,
            img_size=spec.size,
            in_chans=spec.channels,
            patch_size=self.patch_side(spec.size),
            num_blocks=self.depth,
            embed_dim=self.dim,
            mlp_ratio=(0.5, 0.5),
        )
        return recomputing(network, spec)
