"""Losses as sums: the caller divides by the number of targets over all processes, once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.manifest import IGNORE


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each image, summed, and how many images there are (paper section 4.3).

    Args:
        logits: float (B, K).
        target: int64 (B,) in [0, K).
        label_smoothing: in [0, 1).
    """
    loss = F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=label_smoothing)
    return loss, torch.tensor(len(target), device=target.device)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Focal loss of each pixel, summed, and how many pixels count (Lin et al. 2017; paper section 4.3).

    The factor (1 - p)^gamma belongs to each pixel; the authors' script applies it to the mean of a batch.

    Args:
        logits: float (B, K, H, W).
        target: int64 (B, H, W) in [0, K), or 255 = ignored: such a pixel counts in neither result.
        gamma: >= 0; 0 is cross-entropy.
    """
    entropy = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="none")
    # An ignored pixel has an entropy of 0, so it adds nothing.
    weight = (1 - (-entropy).exp()).clamp(min=0) ** gamma
    return (weight * entropy).sum(), (target != IGNORE).sum()
