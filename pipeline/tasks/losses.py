"""Losses as sums over targets: the caller divides once, by their number over all processes (`Task.count`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.shards.targets import IGNORE


class ClassWeights:
    """The weight of each class, on whichever device asks for it.

    Weights are frequency ** -power, scaled so that their mean over the targets of train is 1: the weighted loss stays
    as large as the plain one. A class that train lacks has weight 0.

    Args:
        histogram: targets of each class in train; at least one.
        power: 0 weighs all targets alike, 1 all classes.
    """

    def __init__(self, histogram: Sequence[int], power: float) -> None:
        counts = torch.tensor(histogram, dtype=torch.float64)
        frequencies = counts / counts.sum()
        weights = torch.where(counts > 0, frequencies.clamp(min=1e-300) ** -power, 0.0)
        self.values = (weights / (weights * frequencies).sum()).float()
        """float32 (classes,)."""
        self._on: dict[torch.device, Tensor] = {}

    def describe(self, class_names: Sequence[str]) -> str:
        """Return the least and the largest weight with their classes, and which classes have none."""
        there = {
            name: value for name, value in zip(class_names, self.values.tolist(), strict=True) if value > 0
        }
        least, most = min(there, key=there.__getitem__), max(there, key=there.__getitem__)
        absent = [name for name in class_names if name not in there]
        text = f"{there[least]:.3g} ({least}) to {there[most]:.3g} ({most})"
        return text + (f"; none for {', '.join(absent)}, which train lacks" if absent else "")

    def of(self, target: Tensor) -> Tensor:
        """Return the weight of each target, float32: classes int64 (...), or shares of the classes float (B, K)."""
        if target.device not in self._on:  # once: a copy to a GPU waits
            # An ignored pixel's weight is looked up, too; its loss is 0.
            table = torch.cat([self.values, torch.zeros(max(0, IGNORE + 1 - len(self.values)))])
            self._on[target.device] = table.to(target.device)
        table = self._on[target.device]
        if target.is_floating_point():
            return target @ table[: target.shape[1]]
        return table[target]


def cross_entropy(
    logits: Tensor, target: Tensor, label_smoothing: float = 0.0, weights: ClassWeights | None = None
) -> Tensor:
    """Return the cross-entropy of each image, summed (paper section 4.3).

    Args:
        logits: float (B, K).
        target: int64 (B,) in [0, K), or the share of each class in a mixed image, float (B, K).
        label_smoothing: in [0, 1).
        weights: of the classes; None weighs all alike.
    """
    if weights is None:
        return F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=label_smoothing)
    entropy = F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=label_smoothing)
    return (weights.of(target) * entropy).sum()


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, weights: ClassWeights | None = None) -> Tensor:
    """Return the focal loss of each pixel, summed (Lin et al. 2017; paper section 4.3).

    The factor (1 - p)^gamma belongs to each pixel; the authors' script applies it to the mean of a batch.

    Args:
        logits: float (B, K, H, W).
        target: int64 (B, H, W) in [0, K), or 255 = ignored: such a pixel adds nothing.
        gamma: >= 0; 0 is cross-entropy.
        weights: of the classes; None weighs all alike.
    """
    entropy = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="none")
    # An ignored pixel has an entropy of 0, so it adds nothing.
    weight = (1 - (-entropy).exp()).clamp(min=0) ** gamma
    if weights is not None:
        weight = weight * weights.of(target)
    return (weight * entropy).sum()


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Dice loss of each image (Milletari et al. 2016), times its pixels that count, summed.

    An image's is 1 - 2 |P and T| / (|P| + |T|), averaged over the classes that occur in it: so a class of few pixels
    matters as much as one of many. It is taken image by image and not over a batch, so parts of a batch or more
    processes change nothing.

    Args:
        logits: float (B, K, H, W).
        target: int64 (B, H, W) in [0, K), or 255 = ignored: such a pixel counts nowhere.
    """
    probabilities = logits.float().softmax(1)
    is_class = target[:, None] == torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1)
    overlap, pixels = (probabilities * is_class).sum((2, 3)), is_class.sum((2, 3))  # (B, K)
    predicted = (probabilities * (target != IGNORE)[:, None]).sum((2, 3))
    occurs = pixels > 0
    missed = torch.where(occurs, 1 - 2 * overlap / (predicted + pixels).clamp(min=1e-6), 0.0)
    return (missed.sum(1) / occurs.sum(1).clamp(min=1) * pixels.sum(1)).sum()


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
