"""Keys and rules that networks on tokens share, and how many tokens an image becomes in the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from pipeline.models.base import Depth, Family, NetworkSpec, Width, check_tiling, numbered_blocks

if TYPE_CHECKING:
    from torch import nn

TOKENS = 32
"""Tokens along the shorter side of an image at least, as in the paper's transformers for 32x32 and 64x64 pixels."""


class TokenKeys(Family):
    """The keys of a network that works on tokens in blocks."""

    per_image: ClassVar[bool] = True

    dim: Width = 128
    """Width of a token."""
    depth: Depth = 4
    """Blocks."""

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the blocks."""
        return numbered_blocks(network.get_submodule("blocks"))


class AttentionKeys(TokenKeys):
    """The keys of a transformer, the paper's "dim/depth x heads"; ``dim`` is a multiple of ``heads``."""

    heads: Width = 4
    """Heads of the attention in each block."""

    @property
    def size_label(self) -> str:
        """The size as the paper writes it: ``128/4x4``."""
        return f"{self.dim}/{self.depth}x{self.heads}"

    def check(self, spec: NetworkSpec) -> None:
        """Refuse a width that the heads cannot share."""
        super().check(spec)
        if self.dim % self.heads:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of heads, {self.heads}")


class PatchKeys(Family):
    """The key of a network whose tokens are patches of the image."""

    patches: ClassVar[int] = TOKENS
    """Patches along the shorter side at least, where ``patch`` is null."""

    patch: Width | None = None
    """Side of a patch in pixels; null is the largest that leaves as many along the shorter side as in the paper's
    networks for 32x32 pixels: 32, in MLP-Mixer 8."""

    def patch_side(self, size: tuple[int, int]) -> int:
        """Return ``patch``, or what null stands for: all of ``size`` is in patches then."""
        sides = range(1, max(1, min(size) // self.patches) + 1)
        return self.patch or max(side for side in sides if not any(length % side for length in size))

    @property
    def patch_label(self) -> str:
        """The patch where one is set: `` patch 4``."""
        return f" patch {self.patch}" if self.patch else ""

    def check(self, spec: NetworkSpec) -> None:
        """Refuse patches that do not tile the image."""
        super().check(spec)
        check_tiling(self.patch_side(spec.size), spec.size)


def token_stride(size: tuple[int, int]) -> int:
    """Return the pixels between tokens that leave at least `TOKENS` of them along the shorter side of ``size``."""
    return max(1, min(size) // TOKENS)


def vision_transformer(spec: NetworkSpec, **keywords: Any) -> nn.Module:
    """Return timm's transformer for ``spec``; ``keywords`` are further arguments of it."""
    from timm.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        img_size=spec.size, in_chans=spec.channels, num_classes=spec.outputs, **keywords
    )
    return recomputing(network, spec)


def recomputing(network: Any, spec: NetworkSpec) -> nn.Module:
    """Return timm's ``network``; where ``spec.memory`` is lean, it computes its blocks again in the backward pass."""
    network.set_grad_checkpointing(spec.memory == "lean")
    return cast("nn.Module", network)
