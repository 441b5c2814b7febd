"""Convolutional Performer for vision: each block convolves, attends in linear time and has an MLP.

The structure is that of the authors' published code, the attention FAVOR+ (Choromanski et al., arXiv:2009.14794).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.models.networks.conv_stem import ConvStem

STABILISER = 1e-4
"""Added to all random features, so that no token has a weight of zero."""


class FavorAttention(nn.Module):
    """Multi-head attention whose softmax kernel is estimated with fixed random features: (B, tokens, dim) to the same.

    Args:
        dim: width of a token, a multiple of ``heads``.
        heads: of ``d = dim / heads`` channels each, with ``int(d log d)`` features.
        dropout: share of the output dropped in training.
    """

    projection: Tensor

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        head = dim // heads
        self.register_buffer("projection", orthogonal_gaussian(int(head * math.log(head)), head))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend from all tokens to all."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        # Exponentials and sums over all tokens overflow or lose their small terms in half precision.
        with torch.autocast(tokens.device.type, enabled=False):
            queries, keys = self._features(query.float(), -1), self._features(key.float(), (-2, -1))
            weighted = queries @ (keys.transpose(-2, -1) @ value.float())
            mixed = weighted / (queries @ keys.sum(-2).unsqueeze(-1))
        joined = mixed.transpose(1, 2).flatten(2).to(tokens.dtype)
        return cast(Tensor, self.dropout(self.out(joined)))

    def _features(self, x: Tensor, over: int | tuple[int, int]) -> Tensor:
        """Return positive random features of queries or keys, (B, heads, tokens, features).

        Their largest exponent over the dimensions ``over`` is taken off, which cancels in the attention.
        """
        x = x / x.shape[-1] ** 0.25
        exponent: Tensor = x @ self.projection.T
        exponent = (
            exponent - exponent.detach().amax(over, keepdim=True) - x.square().sum(-1, keepdim=True) / 2
        )
        return (exponent.exp() + STABILISER) / math.sqrt(len(self.projection))


def orthogonal_gaussian(rows: int, columns: int) -> Tensor:
    """Return random rows, orthogonal within blocks of ``columns`` of them, with the lengths of Gaussian vectors."""
    blocks = [torch.linalg.qr(torch.randn(columns, columns)).Q for _ in range(math.ceil(rows / columns))]
    lengths = torch.randn(rows, columns).square().sum(1, keepdim=True).sqrt()
    return lengths * torch.cat(blocks)[:rows]


class Block(nn.Module):
    """A 3x3 convolution, layer norm, attention and an MLP: (B, inputs, H, W) to (B, dim, H, W)."""

    def __init__(self, inputs: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, dim, 3, padding=1)
        self.norm = nn.LayerNorm(dim)
        self.attention = FavorAttention(dim, heads, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, then work on the pixels as tokens."""
        x = self.conv(x)
        tokens: Tensor = self.norm(x.flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(tokens)
        tokens = tokens + self.mlp(tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


class CPV(nn.Module):
    """The network: two convolutions, ``depth`` blocks, the mean over all pixels, a linear layer.

    Args:
        channels: of an image.
        outputs: logits.
        dim: width of a token, a multiple of 4 and of ``heads``.
        stride: of the first convolution.
    """

    def __init__(
        self, channels: int, outputs: int, *, dim: int, depth: int, heads: int, dropout: float, stride: int
    ) -> None:
        super().__init__()
        self.stem = ConvStem(channels, dim // 4, dim // 2, stride=stride)
        inputs = [dim // 2] + [dim] * (depth - 1)
        self.blocks = nn.Sequential(*(Block(width, dim, heads, dropout) for width in inputs))
        self.head = nn.Linear(dim, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map float (B, channels, H, W) to (B, outputs)."""
        x = self.blocks(self.stem(images))
        # Taken channels last: the backward pass of .mean((2, 3)) does not compile.
        return cast(Tensor, self.head(x.permute(0, 2, 3, 1).mean((1, 2))))
