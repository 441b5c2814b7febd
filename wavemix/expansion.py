"""Expansions: the layers that bring the MLP's maps back to the resolution of the block's input."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavemix import switches
from wavemix.config import ModelConfig
from wavemix.wavelet import band_kernels, idwt, synthesis_filters

REACH = {"bilinear": 1, "bicubic": 2}
"""Pixels on either side that an interpolation sees."""


def make_expansion(config: ModelConfig, outputs: int, scale: int) -> nn.Module:
    """Return the layer that enlarges (B, ff, h, w) to (B, outputs, scale h, scale w)."""
    if config.expansion == "deconvolution":
        return TransposedConvolution(config.feedforward, outputs, scale + 2, stride=scale, padding=1)
    if config.expansion == "idwt":
        return Synthesis(config.wavelet, config.dim, scale)
    return Interpolation(config.expansion, scale)


class TransposedConvolution(nn.ConvTranspose2d):
    """The paper's expansion, run natively or, by the switch `subpixel_expansion`, as a convolution of stride 1."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (B, C, h, w) to (B, O, s h, s w), s the stride."""
        if (
            switches.current(x.device.type).subpixel_expansion
            and self.kernel_size == (4, 4)
            and output_size is None
        ):
            return subpixel_deconvolution(x, self.weight, cast(Tensor, self.bias))
        return super().forward(x, output_size)


def subpixel_deconvolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the transposed convolution, kernel 4, stride 2, padding 1, as one 2x2 convolution and an interleave.

    Each of the four pixels that an input pixel becomes is a 2x2 convolution of the input: all four run at
    once, on maps padded by one pixel, and each is cut out of the result at its own offset.

    Args:
        x: (B, C, h, w).
        weight: (C, O, 4, 4).
        bias: (O,).

    Returns:
        (B, O, 2 h, 2 w), channels last.
    """
    height, width = x.shape[-2:]
    kernels = weight.flip(2, 3).transpose(0, 1)  # of a correlation: O, C, 4, 4
    parities = [kernels[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    y = F.conv2d(x, torch.cat(parities), bias.repeat(4), padding=1)  # B, 4 O, h + 1, w + 1
    y = y.permute(0, 2, 3, 1).reshape(-1, height + 1, width + 1, 2, 2, weight.shape[1])  # ..., row, column, O
    rows = [
        torch.stack([y[:, row : row + height, column : column + width, row, column] for column in (0, 1)], 3)
        for row in (0, 1)
    ]
    return torch.stack(rows, 2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Interpolation(nn.Module):
    """Bilinear or bicubic enlargement in the input's dtype (autocast would turn it to fp32 on the CPU)."""

    def __init__(self, mode: str, scale: int) -> None:
        super().__init__()
        self.mode = mode
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, scale h, scale w)."""
        # Measured on a CPU: eager, PyTorch's own bilinear is 5 to 10 times faster than the stencil, its bicubic
        # 2 times slower; compiled, both are 3 to 9 times slower. An exported graph keeps the one operator.
        compiled = torch.compiler.is_compiling()
        native = torch.compiler.is_exporting() if compiled else self.mode == "bilinear"
        with torch.autocast(x.device.type, enabled=False):
            if native:
                return F.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=False)
            return interpolate(x, self.mode, self.scale)


def interpolate(x: Tensor, mode: str, scale: int) -> Tensor:
    """Enlarge maps as `F.interpolate` with `align_corners=False` does, by slices, products and sums.

    So its gradient is slices, products and sums, too. That of `F.interpolate`, compiled, is a scatter: atomic
    additions on a GPU, slow and in no fixed order.

    Args:
        x: (B, C, h, w), any float dtype; the sums are made in float32 at least.
        mode: "bilinear" or "bicubic".
        scale: how many times larger each side becomes.

    Returns:
        (B, C, scale h, scale w), of x's dtype, channels last.
    """
    taps = [_taps(mode, (phase + 0.5) / scale - 0.5) for phase in range(scale)]
    y = x.to(torch.promote_types(x.dtype, torch.float32)).permute(0, 2, 3, 1)
    return _enlarge(_enlarge(y, 2, taps), 1, taps).permute(0, 3, 1, 2).to(x.dtype)


def _taps(mode: str, position: float) -> list[float]:
    """Return the weights of the pixels at -reach ... reach for a point at `position`, in pixels."""
    reach = REACH[mode]
    distances = [abs(pixel - position) for pixel in range(-reach, reach + 1)]
    if mode == "bilinear":
        return [max(0.0, 1 - t) for t in distances]
    a = -0.75  # PyTorch's coefficient of Keys' cubic (1981)
    near = [((a + 2) * t - (a + 3)) * t**2 + 1 for t in distances]
    far = [a * (((t - 5) * t + 8) * t - 4) for t in distances]
    return [
        near[i] if distances[i] <= 1 else far[i] if distances[i] < 2 else 0.0 for i in range(len(distances))
    ]


def _enlarge(x: Tensor, dim: int, taps: list[list[float]]) -> Tensor:
    """Enlarge along one dimension, the edge pixels repeated beyond the edge."""
    length, reach = x.shape[dim], len(taps[0]) // 2
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, length - 1, 1)
    padded = torch.cat([first] * reach + [x] + [last] * reach, dim)
    phases = [
        sum(weight * padded.narrow(dim, start, length) for start, weight in enumerate(weights) if weight)
        for weights in taps
    ]
    return torch.stack(cast("list[Tensor]", phases), dim + 1).flatten(dim, dim + 1)


class Synthesis(nn.Module):
    """The inverse transform: of `dim` channels as approximations, or of 4 dim as all four sub-bands."""

    def __init__(self, wavelet: str, dim: int, scale: int) -> None:
        super().__init__()
        kernels = band_kernels(synthesis_filters(wavelet)).to(torch.get_default_dtype())
        self.register_buffer("kernels", kernels, persistent=False)
        self.dim = dim
        self.levels = scale.bit_length() - 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim or 4 dim, h, w) to (B, dim, about scale h, about scale w)."""
        kernels = cast(Tensor, self.kernels)
        bands = x.reshape(x.shape[0], self.dim, -1, *x.shape[2:])
        for _ in range(self.levels):
            x = idwt(bands, kernels[: bands.shape[2]])
            bands = x.unsqueeze(2)
        return x
