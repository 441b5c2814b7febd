"""Losses as sums over targets: the caller divides once, by their number over all processes (`count`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.shards.targets import IGNORE


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each image, summed (paper section 4.3).

    Args:
        logits: float (B, K).
        target: int64 (B,) in [0, K).
        label_smoothing: in [0, 1).
    """
    return F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=label_smoothing)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of each pixel, summed (Lin et al. 2017; paper section 4.3).

    The factor (1 - p)^gamma belongs to each pixel; the authors' script applies it to the mean of a batch.

    Args:
        logits: float (B, K, H, W).
        target: int64 (B, H, W) in [0, K), or 255 = ignored: such a pixel adds nothing.
        gamma: >= 0; 0 is cross-entropy.
    """
    entropy = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="none")
    # An ignored pixel has an entropy of 0, so it adds nothing.
    weight = (1 - (-entropy).exp()).clamp(min=0) ** gamma
    return (weight * entropy).sum()


def count(target: Tensor) -> Tensor:
    """How many targets have a loss, a scalar: images (B,), or pixels (B, H, W) that are not 255 = ignored."""
    if target.ndim == 1:
        # `torch.tensor` would copy the number from the host, and wait for a GPU.
        return torch.full((), len(target), device=target.device)
    return (target != IGNORE).sum()
