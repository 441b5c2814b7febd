"""A network on an image and on its mirror image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def flip_average(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return ``model`` on each image and on its mirror image, the logits averaged; masks are mirrored back."""

    def forward(images: Tensor) -> Tensor:
        mirrored = model(images.flip(-1))
        return (model(images) + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2

    return forward
