"""The WaveMix-Lite block (section 3.2) and the authors' full WaveMix block, a pyramid over the levels."""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from wavemix.config import ModelConfig
from wavemix.expansion import make_expansion
from wavemix.wavelet import Analysis, wavelet_filters

DROPPED = -1e4
"""Added to a hidden value to drop it: GELU and its derivative are exactly 0 there, and fp16 holds it."""


class Block(nn.Module):
    """Mix the pixels of (B, dim, H, W) at lower resolution and add the result to the input.

    Reduction to dim / 4 channels; wavelet transform; from the deepest level that has one to the finest, an
    MLP of two 1x1 convolutions and an expansion to twice the resolution or more; the input added. In
    family "wavemix-lite" only the deepest level has an MLP (Table 8).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.levels = config.levels
        self.mixer = config.mixer
        self.lean = config.memory == "lean"
        dim, pyramid = config.dim, config.family == "wavemix"
        if config.mixer == "dwt":
            self.reduction = nn.Conv2d(dim, dim // 4, 1)
            self.analysis = Analysis(config.wavelet, config.learnable)
        self.feedforwards = nn.ModuleDict()
        for level in range(1, config.levels + 1) if pyramid else [config.levels]:
            self.feedforwards[str(level)] = FeedForward(
                config,
                inputs=dim * 3 // 2 if pyramid and level < config.levels else dim,
                outputs=dim // 2 if pyramid and level > 1 else dim,
                scale=2 if pyramid else config.scale,
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        if len(self.feedforwards) > 1:
            mixed = self._pyramid(x)
        else:
            (feedforward,) = self._feedforwards()
            mixed = feedforward.norm(self._recomputed(self._mix, x, feedforward))
        return mixed.add_(
            x
        )  # in place: nothing keeps the norm's output, and new memory is expensive on a CPU

    def _feedforwards(self) -> "list[FeedForward]":
        return cast("list[FeedForward]", list(self.feedforwards.values()))

    def _recomputed(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Run the part before the batch norm.

        In lean training only its input and output are kept; the backward pass runs it again, up to but without
        the expansion.
        """
        if not (self.lean and self.training and torch.is_grad_enabled()):
            return function(*inputs)
        # Eager, recomputation stops by itself once it has what the expansion's gradient needs.
        contexts = _keep_expansions if torch.compiler.is_compiling() else noop_context_fn
        return checkpoint(function, *inputs, use_reentrant=False, context_fn=contexts)

    def _mix(self, x: Tensor, feedforward: "FeedForward") -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        size = x.shape[-2:]
        if self.mixer == "dwt":
            x = self.reduction(x)
            for _ in range(self.levels - 1):
                x = self.analysis.approximate(x)
            return cast(Tensor, feedforward(x, size, self.analysis))
        if self.mixer == "dft":
            x = torch.fft.fft2(x.float(), norm="ortho").real.to(x.dtype)
        elif self.mixer == "maxpool":
            x = F.max_pool2d(x, 2**self.levels, ceil_mode=True)
        return cast(Tensor, feedforward(x, size))

    def _pyramid(self, x: Tensor) -> Tensor:
        """Work up from the deepest level, joining each level's sub-bands with the maps from below it."""
        approximations = [self.reduction(x)]
        for _ in range(self.levels - 1):
            approximations.append(self.analysis.approximate(approximations[-1]))
        deeper: Tensor | None = None
        for feedforward, approximation in zip(
            reversed(self._feedforwards()), reversed(approximations), strict=True
        ):
            size = approximation.shape[-2:]
            deeper = self._recomputed(feedforward, approximation, size, self.analysis, deeper)
            deeper = cast(Tensor, feedforward.norm(deeper))
        return cast(Tensor, deeper)


def _policy(_context: object, operator: object, *inputs: Any, **_keywords: Any) -> CheckpointPolicy:
    """Keep the results of transposed convolutions (two thirds of the work), recompute all else."""
    if operator == torch.ops.aten.convolution.default and inputs[6]:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


_keep_expansions = functools.partial(create_selective_checkpoint_contexts, _policy)


class FeedForward(nn.Module):
    """An MLP of two 1x1 convolutions (GELU and dropout between), the expansion; and the batch norm after it.

    Args:
        config: of the network.
        inputs: channels of the sub-bands, with those that come up from a deeper level.
        outputs: channels after the expansion.
        scale: how many times the expansion enlarges each side.
    """

    folded: Tensor | None

    def __init__(self, config: ModelConfig, inputs: int, outputs: int, scale: int) -> None:
        super().__init__()
        self.bands = config.dim
        self.dropout = config.dropout
        self.offset = 0
        if config.mixer == "dwt" and config.expansion != "idwt":
            # A filter longer than Haar's two taps also sees as many pixels before the image as after it.
            self.offset = (wavelet_filters(config.wavelet).shape[1] - 2) // 2 * (scale - 1)
        self.widen = nn.Conv2d(inputs, config.mult * config.dim, 1)
        self.narrow = nn.Conv2d(config.mult * config.dim, config.feedforward, 1)
        self.expansion = make_expansion(config, outputs, scale)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.register_buffer("folded", None, persistent=False)  # the wavelet in `widen`, once fused

    def forward(
        self, x: Tensor, size: torch.Size, analysis: Analysis | None = None, deeper: Tensor | None = None
    ) -> Tensor:
        """Run everything but the batch norm.

        Args:
            x: (B, C, H, W): approximations of the level above, or the mixer's output.
            size: (H', W') of the result, cropped to it if the wavelet's padding made the maps larger.
            analysis: the wavelet, one level of which comes first.
            deeper: (B, dim / 2, h, w), joined to the level's sub-bands.

        Returns:
            (B, outputs, *size).
        """
        x = self.expansion(self._mlp(x, analysis, deeper))
        if x.shape[-2:] == size:
            return x
        start, (height, width) = self.offset, size
        return x[..., start : start + height, start : start + width]

    def _mlp(self, x: Tensor, analysis: Analysis | None, deeper: Tensor | None) -> Tensor:
        weight = self.widen.weight.flatten(1)
        if analysis is None:
            x = self.widen(x)
        else:
            x = analysis.mix(x, weight[:, : self.bands], self.widen.bias, self.folded)
        if deeper is not None:
            x = x + F.conv2d(deeper, weight[:, self.bands :, None, None])
        if not (self.training and self.dropout):
            return cast(Tensor, self.narrow(F.gelu(x)))
        # Inverted dropout without a mask to keep: the dropped values are pushed to where GELU and its
        # derivative vanish, and the kept are scaled through the weight that follows.
        mask = random_mask(x, self.dropout)
        # A compiled checkpoint (`Block._recomputed`) allows no operation in place; the compiler fuses it anyway.
        in_place = not torch.compiler.is_compiling()
        x = x.add_(mask, alpha=DROPPED) if in_place else x.add(mask, alpha=DROPPED)
        x = F.gelu(x)
        return F.conv2d(x, self.narrow.weight / (1 - self.dropout), self.narrow.bias)


def random_mask(x: Tensor, probability: float) -> Tensor:
    """Return a bool mask of `x`'s shape and layout, True with `probability` in steps of 1 / 65536."""
    if torch.compiler.is_compiling():
        return torch.rand_like(x, dtype=torch.float32) < probability  # made where it is used, in one kernel
    # The CPU draws random numbers on one thread, 64 bits at a time: enough for four values.
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), 2**63 - 1)
    mask = words.view(torch.int16)[: x.numel()] < round(probability * 65536) - 32768
    return mask.as_strided(x.shape, x.stride())
