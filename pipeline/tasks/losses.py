"""Losses as sums over targets: the caller divides once, by their number over all processes (`Task.count`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.shards.targets import IGNORE


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each image, summed (paper section 4.3).

    Args:
        logits: float (B, K).
        target: int64 (B,) in [0, K).
        label_smoothing: in [0, 1).
    """
    return F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=label_smoothing)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of each pixel, summed (Lin et al. 2017; paper section 4.3).

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


def binary_cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the binary cross-entropy, averaged over the classes of each image and summed over the images.

    Args:
        logits: float (B, K).
        target: 0 or 1, (B, K).
        label_smoothing: in [0, 1); moves the targets towards 1/2.
    """
    smoothed = target.float() * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits.float(), smoothed, reduction="sum") / logits.shape[1]


def count_images(target: Tensor) -> Tensor:
    """Return the number of images, a scalar on the device of ``target``, (B, ...)."""
    # `torch.tensor` would copy the number from the host, and wait for a GPU.
    return torch.full((), len(target), device=target.device)


def count_pixels(target: Tensor) -> Tensor:
    """Return how many pixels of ``target``, train ids (B, H, W), are not 255 = ignored: a scalar on its device."""
    return (target != IGNORE).sum()
