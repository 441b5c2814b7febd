"""Plain convolutions in front of a transformer, as in the authors' HybridViX networks."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


class ConvStem(nn.Sequential):
    """3x3 convolutions without norm or activation, of which the first has ``stride``.

    Args:
        widths: channels of the image, then those after each convolution.
        stride: pixels between the outputs of the first convolution.
    """

    num_features: int
    """Channels of the output, under the name that timm's `HybridEmbed` reads."""

    def __init__(self, *widths: int, stride: int) -> None:
        super().__init__(
            *(
                nn.Conv2d(inputs, outputs, 3, stride if first else 1, padding=1)
                for first, (inputs, outputs) in zip(
                    [True, *[False] * len(widths)], pairwise(widths), strict=False
                )
            )
        )
        self.num_features = widths[-1]
