"""ConvMixer (Trockman and Kolter, arXiv:2201.09792) with the head of WaveMix-Lite, the paper's own comparison."""

from __future__ import annotations

from typing import cast

from timm.models.convmixer import ConvMixer
from torch import Tensor, nn


class ConvMixerSegmenter(nn.Module):
    """timm's ConvMixer, then transposed convolutions that double the size and halve the channels.

    Args:
        channels: of an image.
        outputs: logits per pixel.
        dim: channels of the blocks, a multiple of ``patch``.
        kernel: side of the depthwise convolutions.
        patch: side in pixels of the patches, a power of two.
    """

    def __init__(self, channels: int, outputs: int, *, dim: int, depth: int, kernel: int, patch: int) -> None:
        super().__init__()
        self.body = ConvMixer(
            dim=dim, depth=depth, kernel_size=kernel, patch_size=patch, in_chans=channels, num_classes=0
        )
        widths = [dim // 2**doubling for doubling in range(patch.bit_length())]
        self.head = nn.Sequential(
            *(nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1) for width in widths[:-1]),
            nn.Conv2d(widths[-1], outputs, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map float (B, channels, H, W), both sides multiples of the patch, to (B, outputs, H, W)."""
        return cast(Tensor, self.head(self.body.forward_features(images)))
