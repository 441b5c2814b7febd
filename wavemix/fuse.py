"""The inference form of a network: each linear layer merged with the linear layer before it, exactly.

Batch norm goes into the convolution before it, the wavelet into the MLP's first 1x1, the two stem
convolutions into one, the segmentation head's last two layers into one if that is less work.
"""

from copy import deepcopy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from wavemix.block import Block, FeedForward
from wavemix.expansion import Interpolation
from wavemix.heads import SegmentationHead
from wavemix.stem import StridedStem
from wavemix.wavelet import Analysis, fold

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def fused_copy(model: Model) -> Model:
    """Return a copy of a `WaveMixLite`, in evaluation mode and without gradients, with its layers merged."""
    model = deepcopy(model).eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, Block):
            for feedforward in module.feedforwards.values():
                _fuse_feedforward(cast(FeedForward, feedforward), getattr(module, "analysis", None))
        elif isinstance(module, SegmentationHead):
            _fuse_head(module)
    if isinstance(model.stem, StridedStem) and model.stem.merge:
        model.stem.folded_weight, model.stem.folded_bias = model.stem.compose()
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
    elif isinstance(expansion, Interpolation):  # the same for every channel, and keeps constants
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
