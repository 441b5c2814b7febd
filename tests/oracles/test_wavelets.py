"""The wavelet transform against PyWavelets and pytorch_wavelets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wavemix.wavelet import (
    Analysis,
    band_kernels,
    concatenate_bands,
    dwt,
    idwt,
    synthesis_filters,
    wavelet_filters,
)

WAVELETS = ["haar", "db2", "db4", "sym5", "coif1", "bior2.2", "rbio3.1", "dmey"]
SIZES = [(8, 8), (7, 10), (13, 9)]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Filters are made in the default dtype, by pytorch_wavelets too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def image(height: int, width: int, requires_grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    return x.requires_grad_(requires_grad)


def theirs(x: Tensor, wavelet: str, levels: int = 1) -> Tensor:
    import pytorch_wavelets

    low, high = pytorch_wavelets.DWTForward(J=levels, wave=wavelet, mode="zero")(x)
    bands: Tensor = torch.cat([low[:, :, None], high[-1]], dim=2)
    return bands


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("size", SIZES)
def test_bands_are_pywavelets(wavelet: str, size: tuple[int, int]) -> None:
    x = image(*size)
    low, (along_height, along_width, diagonal) = pywt.dwt2(x.numpy(), wavelet, mode="zero")
    expected = np.stack([low, along_height, along_width, diagonal], axis=2)
    np.testing.assert_allclose(dwt(x, band_kernels(wavelet_filters(wavelet))), expected, atol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
@pytest.mark.parametrize("size", SIZES)
def test_bands_and_gradient_are_pytorch_wavelets(wavelet: str, size: tuple[int, int]) -> None:
    x = image(*size, requires_grad=True)
    ours, oracle = dwt(x, band_kernels(wavelet_filters(wavelet))), theirs(x, wavelet)
    torch.testing.assert_close(ours, oracle, atol=1e-10, rtol=0)
    direction = torch.randn_like(ours)
    gradients = [torch.autograd.grad((bands * direction).sum(), x)[0] for bands in (ours, oracle)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)


@pytest.mark.parametrize("wavelet", [name for name in WAVELETS if name != "dmey"])  # dmey only nearly inverts
def test_inverse_restores_the_image(wavelet: str) -> None:
    x = image(16, 12)
    bands = dwt(x, band_kernels(wavelet_filters(wavelet)))
    restored = idwt(bands, band_kernels(synthesis_filters(wavelet)))
    torch.testing.assert_close(restored[..., :16, :12], x, atol=1e-9, rtol=0)


def test_haar_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 10.0]])[None, None]
    bands = dwt(x, band_kernels(wavelet_filters("haar")))
    assert bands.flatten().tolist() == pytest.approx([8.0, -5.0, -4.0, 3.0])


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (13, 10)])
@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_levels_and_the_merged_convolution(
    levels: int, size: tuple[int, int], learnable: bool, wavelet: str
) -> None:
    analysis = Analysis(wavelet, learnable)
    x = image(*size, requires_grad=True)
    weight = torch.randn(5, 12, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64)
    low = x
    for _ in range(levels - 1):
        low = analysis.approximate(low)
    ours = analysis.mix(low, weight, bias)
    oracle: Any = torch.einsum("mc,bchw->bmhw", weight, concatenate_bands(theirs(x, wavelet, levels)))
    oracle = oracle + bias[:, None, None]
    torch.testing.assert_close(ours, oracle, atol=1e-10, rtol=0)
    direction = torch.randn_like(ours)
    gradients = [torch.autograd.grad((y * direction).sum(), x)[0] for y in (ours, oracle)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)
