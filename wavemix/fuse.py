"""The inference form of a network: what is linear merged with the linear before it, exactly.

Batch norm goes into the convolution before it, the wavelet into the MLP's first 1x1, the two stem
convolutions into one, the segmentation head's last two layers into one where that is less work.
"""

from copy import deepcopy
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavemix.block import Block, FeedForward, Interpolation
from wavemix.heads import SegmentationHead
from wavemix.wavelet import Analysis, fold

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def fused_copy(model: Model) -> Model:
    """A copy of a `WaveMixLite` in evaluation mode with everything merged that can be."""
    model = deepcopy(model).eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, Block):
            for feedforward in module.feedforwards.values():
                _fuse_feedforward(cast(FeedForward, feedforward), getattr(module, "analysis", None))
        elif isinstance(module, SegmentationHead):
            _fuse_head(module)
    stem = cast(nn.Sequential, model.stem)
    if len(stem) == 2:  # the strided stem; the patch stem has a GELU before its batch norm
        model.stem = FusedStem(cast(nn.Conv2d, stem[0]), cast(nn.Conv2d, stem[1]))
    return model


def _fuse_feedforward(feedforward: FeedForward, analysis: Analysis | None) -> None:
    if analysis is not None and analysis.length == 2:
        feedforward.folded = fold(
            feedforward.widen.weight.flatten(1)[:, : feedforward.bands], analysis.kernels
        )
    norm = cast(nn.BatchNorm2d, feedforward.norm)
    variance, mean = cast(Tensor, norm.running_var), cast(Tensor, norm.running_mean)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    expansion = feedforward.expansion
    if isinstance(expansion, nn.ConvTranspose2d):
        expansion.weight *= scale[:, None, None]
        cast(Tensor, expansion.bias).mul_(scale).add_(shift)
    elif isinstance(expansion, Interpolation):  # acts alike on every channel and keeps constants
        feedforward.narrow.weight *= scale[:, None, None, None]
        cast(Tensor, feedforward.narrow.bias).mul_(scale).add_(shift)
    else:
        return
    feedforward.norm = nn.Identity()


def _fuse_head(head: SegmentationHead) -> None:
    last, classify = cast(nn.ConvTranspose2d, head.expand[-1]), cast(nn.Conv2d, head.classify)
    middle, classes = classify.in_channels, classify.out_channels
    taps = (last.kernel_size[0] / last.stride[0]) ** 2  # MACs per output pixel and pair of channels
    if taps * last.in_channels * classes > taps * last.in_channels * middle + middle * classes:
        return
    matrix = classify.weight.flatten(1)
    merged = deepcopy(last)
    merged.out_channels = classes
    merged.weight = nn.Parameter(torch.einsum("km,imyx->ikyx", matrix, last.weight), requires_grad=False)
    bias = cast(Tensor, classify.bias) + matrix @ cast(Tensor, last.bias)
    merged.bias = nn.Parameter(bias, requires_grad=False)
    head.expand[-1] = merged
    head.classify = nn.Identity()


class FusedStem(nn.Module):
    """The two 3x3 convolutions of the strided stem as one, (2 s + 3) x (2 s + 3) with stride s * s.

    The second convolution pads the first one's output with zeros, which no single kernel does: the
    outermost pixels are taken from the two convolutions run on thin strips along the border.
    """

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.step = first.stride[0]
        # Kernel of the composition: the second's taps, spread by the first's stride, over the first's.
        spread = F.conv_transpose2d(second.weight, first.weight, stride=self.step)
        self.register_buffer("weight", spread)
        middle = cast(Tensor, first.bias)
        self.register_buffer("bias", cast(Tensor, second.bias) + second.weight.sum((2, 3)) @ middle)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, dim, ~H / s^2, ~W / s^2)."""
        step = self.step
        x = F.conv2d(
            images, cast(Tensor, self.weight), cast(Tensor, self.bias), stride=step**2, padding=step + 1
        )
        rows, columns = x.shape[-2:]
        near = step + 2  # pixels that the first row of outputs sees
        top, bottom = step**2 * max(rows - 3, 0), step**2 * max(columns - 3, 0)
        x[:, :, :1] = self._plain(images[:, :, :near])[:, :, :1]
        x[:, :, -1:] = self._plain(images[:, :, top:])[:, :, -1:]
        x[..., :1] = self._plain(images[..., :near])[..., :1]
        x[..., -1:] = self._plain(images[..., bottom:])[..., -1:]
        return x

    def _plain(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.second(self.first(images)))
