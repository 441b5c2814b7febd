"""Convolutional Performer for vision (Jeevan and Sethi, arXiv:2201.10271), which no kept library has."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.models.base import Depth, NetworkSpec, Share, register
from pipeline.models.classifiers.tokens import AttentionKeys, token_stride

if TYPE_CHECKING:
    from torch import nn


@register
class CPVFamily(AttentionKeys):
    """CPV for images of any size; the paper's row is 128/5x4."""

    named: ClassVar[tuple[str, ...]] = ("dim", "depth", "heads")

    family: Literal["cpv"] = "cpv"
    depth: Depth = 5
    """Blocks."""
    dropout: Share = 0.5
    """Share of values dropped in training, behind the attention and in the MLP."""

    @property
    def label(self) -> str:
        """``CPV-128/5x4``."""
        return f"CPV-{self.size_label}"

    def check(self, spec: NetworkSpec) -> None:
        """Refuse a width that the heads or the stem cannot share, or that leaves a head no random features."""
        super().check(spec)
        if self.dim % 4 or self.dim // self.heads < 3:
            raise ValueError(
                f"dim is {self.dim}; it must be a multiple of 4 and at least 3 for each of {self.heads} heads"
            )

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return a `pipeline.models.networks.cpv.CPV`."""
        from pipeline.models.networks.cpv import CPV

        return CPV(
            spec.channels,
            spec.outputs,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            dropout=self.dropout,
            stride=token_stride(spec.size),
        )
