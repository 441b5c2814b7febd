"""The 2D discrete wavelet transform with zero padding, its inverse, and Haar folded into a convolution.

Sub-bands come in the order LL, LH, HL, HH (first letter: low or high pass along the width, second: along
the height), which is also that of pytorch_wavelets.
"""

import functools
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavemix.choices import suggest


@functools.cache
def _filter_bank(wavelet: str) -> tuple[tuple[float, ...], ...]:
    import pywt

    return tuple(tuple(taps) for taps in pywt.Wavelet(wavelet).filter_bank)


def check_wavelet(wavelet: object) -> None:
    """Raise ValueError unless PyWavelets knows a discrete wavelet of that name."""
    import pywt

    names = pywt.wavelist(kind="discrete")
    if wavelet not in names:
        raise ValueError(
            f"unknown wavelet {wavelet!r}{suggest(str(wavelet), names)}; allowed are the discrete wavelets "
            "of PyWavelets, for example 'haar', 'db2', 'sym4', 'bior2.2'"
        )


def wavelet_filters(wavelet: str) -> Tensor:
    """Return the low and high pass analysis filters as correlation kernels, float64 (2, length), length even.

    Args:
        wavelet: a name that `check_wavelet` accepts.
    """
    low, high = _filter_bank(wavelet)[:2]
    return torch.tensor([low[::-1], high[::-1]], dtype=torch.float64)


def synthesis_filters(wavelet: str) -> Tensor:
    """Return the low and high pass synthesis filters as transposed-convolution kernels, float64 (2, length)."""
    low, high = _filter_bank(wavelet)[2:]
    return torch.tensor([low, high], dtype=torch.float64)


def band_kernels(filters: Tensor) -> Tensor:
    """Return the 2D kernels (4, length, length) of the four sub-bands, from 1D filters (2, length)."""
    kernels = filters[:, None, None, :] * filters[None, :, :, None]  # width's filter, height's, y, x
    return kernels.flatten(0, 1)


def pad_zeros(x: Tensor, length: int) -> Tensor:
    """Pad (..., H, W) with zeros so that a stride-2 kernel of `length` sees every pixel (mode "zero")."""
    height, width = x.shape[-2:]
    before, right, bottom = length - 2, length - 2 + width % 2, length - 2 + height % 2
    return F.pad(x, (before, right, before, bottom)) if right or bottom else x


def dwt(x: Tensor, kernels: Tensor) -> Tensor:
    """Apply one level of the transform.

    Args:
        x: (B, C, H, W), any float dtype.
        kernels: (4, length, length), see `band_kernels`.

    Returns:
        (B, C, 4, h, w) with h = floor((H + length - 1) / 2), likewise w: PyWavelets' mode "zero".
    """
    padded = pad_zeros(x, kernels.shape[-1])
    bands = F.conv2d(padded.flatten(0, 1)[:, None], kernels[:, None].to(x.dtype), stride=2)
    return bands.reshape(*x.shape[:2], *bands.shape[1:])


def idwt(bands: Tensor, kernels: Tensor) -> Tensor:
    """Apply one level of the inverse transform.

    Args:
        bands: (B, C, 4, h, w), any float dtype.
        kernels: (4, length, length), `band_kernels` of the synthesis filters.

    Returns:
        (B, C, 2 h - length + 2, 2 w - length + 2).
    """
    crop = kernels.shape[-1] - 2
    x = F.conv_transpose2d(bands.flatten(0, 1), kernels[:, None].to(bands.dtype), stride=2, padding=crop)
    return x.reshape(*bands.shape[:2], *x.shape[2:])


def concatenate_bands(bands: Tensor) -> Tensor:
    """Join (B, C, 4, h, w) to (B, 4C, h, w) in the authors' order: every LL, then LH, HL, HH of each channel."""
    return torch.cat([bands[:, :, 0], bands[:, :, 1:].flatten(1, 2)], dim=1)


def fold(weight: Tensor, kernels: Tensor) -> Tensor:
    """Merge the transform with the 1x1 convolution that follows it: exact, as both are linear.

    Args:
        weight: (M, 4C), the 1x1 convolution on the concatenated bands.
        kernels: (4, length, length).

    Returns:
        (M, C, length, length): a stride-2 kernel, in the parameters' precision also under autocast.
    """
    channels = weight.shape[1] // 4
    low, detail = weight[:, :channels, None], weight[:, channels:].reshape(-1, channels, 3)
    per_band = torch.cat([low, detail], dim=2)[..., None, None]
    return (per_band * kernels.to(weight.dtype)).sum(2)


class Analysis(nn.Module):
    """A wavelet's analysis kernels, fixed or learnt, and the levels of its transform."""

    def __init__(self, wavelet: str, learnable: bool = False) -> None:
        super().__init__()
        filters = wavelet_filters(wavelet)
        self.length = filters.shape[1]
        self.learnable = learnable
        if learnable:
            self.filters = nn.Parameter(filters.to(torch.get_default_dtype()))
        else:
            fixed = band_kernels(filters).to(torch.get_default_dtype())
            self.register_buffer("fixed", fixed, persistent=False)

    @property
    def kernels(self) -> Tensor:
        """(4, length, length)."""
        return band_kernels(self.filters) if self.learnable else cast(Tensor, self.fixed)

    def approximate(self, x: Tensor) -> Tensor:
        """Return one level's LL band alone: (B, C, H, W) -> (B, C, h, w)."""
        if self.length == 2 and not self.learnable:
            return 2 * F.avg_pool2d(pad_zeros(x, 2), 2)  # Haar's LL is half the sum of 2x2 pixels
        return dwt(x, self.kernels[:1])[:, :, 0]

    def mix(self, x: Tensor, weight: Tensor, bias: Tensor | None, folded: Tensor | None = None) -> Tensor:
        """Apply one level of the transform and the 1x1 convolution after it: (B, C, H, W) -> (B, M, h, w).

        A wavelet of two taps is folded into the convolution; folding longer ones would cost more MACs.

        Args:
            x: (B, C, H, W).
            weight: (M, 4C), on the concatenated bands.
            bias: (M,).
            folded: `fold` of the weight if it is known already.
        """
        if self.length > 2:
            return F.conv2d(concatenate_bands(dwt(x, self.kernels)), weight[..., None, None], bias)
        kernel = fold(weight, self.kernels) if folded is None else folded
        return F.conv2d(pad_zeros(x, 2), kernel, bias, stride=2)
