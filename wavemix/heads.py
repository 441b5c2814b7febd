"""Heads: the layers from the last block's maps to the logits."""

import math
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from wavemix.config import ModelConfig


class ClassificationHead(nn.Module):
    """Global average pooling and one linear layer; any hidden layer would break the paper's counts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, h, w) to (B, num_classes)."""
        # Take the mean channels last, so that its gradient is channels last too: in another layout it sends
        # every batch norm of the network down a path that is 30 times slower on a CPU.
        return cast(Tensor, self.linear(x.permute(0, 2, 3, 1).mean((1, 2))))


class SegmentationHead(nn.Module):
    """Two transposed convolutions, dim -> dim / 2 -> dim / 4, that undo the stem's strides, and a 1x1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        strides = head_strides(config.stem_factor)
        widths = (config.dim, config.dim // 2, config.dim // 4)
        self.expand = nn.Sequential(
            *(
                nn.ConvTranspose2d(inputs, outputs, stride + 2, stride=stride, padding=1)
                for (inputs, outputs), stride in zip(pairwise(widths), strides, strict=True)
            )
        )
        self.classify: nn.Module = nn.Conv2d(widths[-1], config.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, h, w) to (B, num_classes, stem_factor h, stem_factor w)."""
        return cast(Tensor, self.classify(self.expand(x)))


def head_strides(factor: int) -> tuple[int, int]:
    """Return the most equal pair of strides with the product `factor`, the larger first: 4 -> 2, 2; 8 -> 4, 2."""
    small = next(s for s in range(math.isqrt(factor), 0, -1) if factor % s == 0)
    return factor // small, small


HEADS: dict[str, type[nn.Module]] = {"classification": ClassificationHead, "segmentation": SegmentationHead}
