"""Mix pairs of images and their classes: mixup and cutmix (``train.mix``)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pipeline.params import MixParams

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(images, classes) -> (mixed images, shares of the classes)."""


def build_mixing(params: MixParams, num_classes: int) -> Mixing:
    """Return torchvision's mixup, cutmix, or a random choice of the two for each batch.

    It takes normalised images, float (B, C, H, W), and their classes, int64 (B,), and gives as many mixed images and
    the share of each class in them, float (B, classes). Each image is mixed with its neighbour. What is random comes
    from torch's generator of the CPU, which `pipeline.train.step` seeds for every step.
    """
    from torchvision.transforms import v2

    mixings = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, params.mixup), (v2.CutMix, params.cutmix))
        if alpha
    ]
    chosen: Mixing = mixings[0] if len(mixings) == 1 else v2.RandomChoice(mixings)
    return chosen
