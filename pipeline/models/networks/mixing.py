"""Ways to mix tokens, in the form of timm's attention layers: (B, tokens, dim) to the same shape."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

LANDMARKS = 64
"""Landmarks of the Nystrom attention in the authors' HybridViN."""


class NystromMixing(nn.Module):
    """The Nystrom approximation of attention (Xiong et al., arXiv:2102.03902), by nystrom-attention."""

    def __init__(self, dim: int, num_heads: int, **_: Any) -> None:
        super().__init__()
        from nystrom_attention import NystromAttention

        self.attention = NystromAttention(
            dim=dim, dim_head=dim // num_heads, heads=num_heads, num_landmarks=LANDMARKS
        )

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        """Attend from all tokens to all, by way of the landmarks."""
        return cast(Tensor, self.attention(tokens))


class FourierMixing(nn.Module):
    """The real part of the Fourier transform over tokens and channels; it has no weights."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        """Mix in float32: half precision has transforms for powers of two only."""
        return cast(Tensor, torch.fft.fft2(tokens.float()).real.to(tokens.dtype))
