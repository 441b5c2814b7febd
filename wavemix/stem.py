"""Stems: the layers from an image to the first maps, strided as in the paper or with the authors' patches."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavemix import switches
from wavemix.config import ModelConfig


class StridedStem(nn.Sequential):
    """Two 3x3 convolutions, in_channels -> dim / 2 -> dim, each with stride s; nothing between them.

    So if it pays they are computed as one convolution of (2 s + 3) x (2 s + 3) with stride s * s, composed of the
    two kernels: about an eighth of the work at dim 128, and no maps between them. Only at the border, where
    the second convolution pads the first one's output with zeros, no single kernel does: the outermost pixels
    come from the two convolutions, run on thin strips.
    """

    folded_weight: Tensor | None
    folded_bias: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        channels, dim, self.step = config.in_channels, config.dim, config.stem_stride
        super().__init__(
            nn.Conv2d(channels, dim // 2, 3, self.step, padding=1),
            nn.Conv2d(dim // 2, dim, 3, self.step, padding=1),
        )
        plain = 9 * dim // 2 * (channels * self.step**2 + dim)  # MACs per output pixel
        composed = channels * dim * (2 * self.step + 3) ** 2
        pays = 4 * composed < plain  # measured: otherwise the strips cost more than the composition saves
        self.merge = pays and config.implementation == "fast"
        self.register_buffer("folded_weight", None, persistent=False)  # known once the network is fused
        self.register_buffer("folded_bias", None, persistent=False)

    def compose(self) -> tuple[Tensor, Tensor]:
        """Return the weight (dim, in_channels, 2 s + 3, 2 s + 3) and bias (dim,) of the two convolutions as one."""
        if self.folded_weight is not None and self.folded_bias is not None:
            return self.folded_weight, self.folded_bias
        first, second = cast("tuple[nn.Conv2d, nn.Conv2d]", tuple(self))
        with torch.autocast(first.weight.device.type, enabled=False):
            weight = F.conv_transpose2d(second.weight, first.weight, stride=self.step)
            bias = second.weight.sum((2, 3)) @ cast(Tensor, first.bias) + cast(Tensor, second.bias)
        return weight, bias

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, dim, ceil(H / s^2), ceil(W / s^2))."""
        plain, pitch = self._plain, self.step**2
        rows, columns = (-(-side // pitch) for side in images.shape[-2:])
        as_written = switches.current(images.device.type).plain_stem
        if not self.merge or as_written or min(rows, columns) < 4:
            return plain(images)
        weight, bias = self.compose()
        x = F.conv2d(images, weight, bias, stride=pitch, padding=self.step + 1)
        near = (
            self.step + 2
        )  # pixels that the first row of outputs sees; the last sees less than three pitches
        top, bottom = plain(images[:, :, :near]), plain(images[:, :, (rows - 3) * pitch :])
        left, right = plain(images[..., :near]), plain(images[..., (columns - 3) * pitch :])
        inner = [left[:, :, 1:-1, :1], x[:, :, 1:-1, 1:-1], right[:, :, 1:-1, -1:]]
        return torch.cat([top[:, :, :1], torch.cat(inner, dim=3), bottom[:, :, -1:]], dim=2)

    def _plain(self, images: Tensor) -> Tensor:
        first, second = self
        return cast(Tensor, second(first(images)))


class PatchStem(nn.Sequential):
    """The authors' stem for large images: two 3x3 convolutions, one patch each p x p pixels, GELU, norm."""

    def __init__(self, config: ModelConfig, patch_size: int) -> None:
        dim = config.dim
        super().__init__(
            nn.Conv2d(config.in_channels, dim // 4, 3, padding=1),
            nn.Conv2d(dim // 4, dim // 2, 3, padding=1),
            nn.Conv2d(dim // 2, dim, patch_size, stride=patch_size),
            nn.GELU(),
            nn.BatchNorm2d(dim),
        )


def make_stem(config: ModelConfig) -> nn.Sequential:
    """Return the stem: (B, in_channels, H, W) -> (B, dim, about H / stem_factor, about W / stem_factor)."""
    return StridedStem(config) if config.patch_size is None else PatchStem(config, config.patch_size)
