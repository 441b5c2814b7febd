"""Expansions: the interpolations by slices, and the transposed convolution as a convolution, against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.wavemix.graphs import backward_graph
from wavemix import switches
from wavemix.expansion import Interpolation, TransposedConvolution, interpolate

SIZES = [(1, 1), (2, 1), (5, 6), (8, 7)]


def random_maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", SIZES)
def test_interpolation_by_slices_is_pytorchs(mode: str, scale: int, size: tuple[int, int]) -> None:
    x = random_maps(2, 3, *size)
    found = interpolate(x, mode, scale)
    expected = F.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)
    direction = torch.randn_like(expected)
    gradients = [torch.autograd.grad(y, x, direction)[0] for y in (found, expected)]
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(*gradients, atol=1e-13, rtol=1e-13)


def test_bilinear_doubling_by_hand() -> None:
    row = torch.tensor([0.0, 4.0, 8.0]).expand(1, 1, 3, 3)
    assert interpolate(row, "bilinear", 2)[0, 0, 0].tolist() == [0, 1, 3, 5, 7, 8]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_interpolation_keeps_dtype_layout_and_half_precision(mode: str) -> None:
    x = torch.randn(2, 8, 5, 7).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    y = interpolate(x, mode, 2)
    assert y.is_contiguous(memory_format=torch.channels_last)
    exact = F.interpolate(x.double(), scale_factor=2, mode=mode, align_corners=False)
    torch.testing.assert_close(y, exact.to(torch.bfloat16), atol=0, rtol=2**-7)  # one rounding


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_compiled_gradient_of_an_interpolation_scatters_nothing(mode: str) -> None:
    x = torch.randn(2, 4, 6, 6, requires_grad=True)

    def scatters(layer: torch.nn.Module) -> bool:
        names = [str(node.target) for node in backward_graph(layer, x)]
        return any("index_put" in name or ".scatter" in name for name in names)  # slice_scatter is a copy

    native = torch.nn.Upsample(scale_factor=2, mode=mode, align_corners=False)
    assert scatters(native)  # what this test looks for is there to be found
    assert not scatters(Interpolation(mode, 2))


def test_exported_interpolation_is_one_operator() -> None:
    program = torch.export.export(Interpolation("bicubic", 2), (torch.randn(1, 4, 6, 6),), strict=True)
    code = program.graph_module.print_readable(print_output=False)
    assert "upsample_bicubic2d" in code
    assert "slice" not in code


@pytest.mark.parametrize("size", SIZES)
def test_transposed_convolution_as_a_convolution(size: tuple[int, int]) -> None:
    layer = TransposedConvolution(6, 7, 4, stride=2, padding=1).double()
    x = random_maps(2, 6, *size)
    results = []
    for names in ([], ["subpixel_expansion"]):
        with switches.switched(*names):
            y = layer(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    assert results[1][0].is_contiguous(memory_format=torch.channels_last)
    for native, subpixel in zip(*results, strict=True):
        torch.testing.assert_close(subpixel, native, atol=1e-12, rtol=1e-12)
