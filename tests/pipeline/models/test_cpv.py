"""CPV's attention, against numbers that performer-pytorch 1.1.4 gives for the same weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.models.networks.cpv import FavorAttention, orthogonal_gaussian

PERFORMER = [
    [-0.48583430, 1.25907459, 0.33079904, -1.90524422, -0.17466065, 2.37058590, 0.02401580, -2.60879877],
    [-0.57916553, 1.16497782, 0.45151244, -1.84627507, -0.31253407, 2.35173792, 0.16737399, -2.63166803],
    [-0.54976007, 1.16248175, 0.42283333, -1.83543338, -0.28700991, 2.33346869, 0.14716617, -2.60751833],
]
"""``SelfAttention(8, heads=2, dim_head=4, dropout=0.0, qkv_bias=True)`` in float64, with the weights of `waves`."""


def wave(step: float, *shape: int) -> Tensor:
    """Return sin(step), sin(2 step), ... in ``shape``."""
    return torch.sin(step * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).view(shape).float()


@torch.no_grad()
def waves(attention: FavorAttention) -> FavorAttention:
    """Fill ``attention``, of 8 channels and 2 heads, with waves."""
    layers = (attention.query, attention.key, attention.value, attention.out)
    for number, layer in enumerate(layers):
        layer.weight.copy_(wave(0.7 + 0.1 * number, 8, 8))
        layer.bias.copy_(wave(1.1 + 0.1 * number, 8))
    attention.projection.copy_(wave(1.7, 5, 4))
    return attention


def test_attention_is_that_of_performer_pytorch() -> None:
    attention = waves(FavorAttention(8, 2, dropout=0.5)).eval()
    out = attention(wave(0.3, 1, 3, 8))
    assert torch.allclose(out, torch.tensor([PERFORMER]), atol=2e-6)


def test_attention_estimates_softmax_attention() -> None:
    torch.manual_seed(0)
    attention = FavorAttention(16, 1, dropout=0.0).eval()
    attention.projection = orthogonal_gaussian(4096, 16)
    tokens = torch.randn(1, 12, 16)
    query, key, value = (layer(tokens) for layer in (attention.query, attention.key, attention.value))
    exact = attention.out(torch.nn.functional.scaled_dot_product_attention(query, key, value))
    uniform = attention.out(value.mean(1, keepdim=True))
    assert (attention(tokens) - exact).abs().mean() < (uniform - exact).abs().mean() / 3


def test_exponentials_stay_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    attention = FavorAttention(16, 4, dropout=0.0).eval()
    tokens = 30 * torch.randn(1, 64, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = attention(tokens)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), attention(tokens), atol=0.3, rtol=0.1)


def test_random_features_are_orthogonal_in_blocks_with_gaussian_lengths() -> None:
    torch.manual_seed(0)
    rows = orthogonal_gaussian(10, 4)
    assert rows.shape == (10, 4)
    products = rows[:4] @ rows[:4].T
    assert torch.allclose(products, products.diag().diag(), atol=1e-5)
    many = orthogonal_gaussian(4000, 4).square().sum(1)
    assert abs(many.mean().item() - 4) < 0.2
