"""What a training step keeps, and what a forward pass costs."""

import pytest
import torch

from tests.wavemix.graphs import backward_graph, convolutions, kept_bytes
from wavemix import create_model
from wavemix.measure import count_macs, count_parameters, saved_bytes


@pytest.mark.parametrize(("memory", "megabytes"), [("default", 27.5), ("lean", 16.5)])
def test_activations_kept_per_image(memory: str, megabytes: float) -> None:
    """128/7 at 64x64 under AMP; the paper's implementation keeps 73 MB."""
    model = create_model("128/7", task="classification", num_classes=1000, memory=memory).train()
    kept = saved_bytes(model, torch.randn(2, 3, 64, 64), torch.bfloat16)
    assert 7 * 128 * 64 * 64 * 2 < kept <= megabytes * 1e6  # at least the blocks' inputs: the hooks saw them


def test_lean_gradients_are_the_same() -> None:
    images, gradients = torch.randn(4, 3, 16, 16), []
    for memory in ("default", "lean"):
        torch.manual_seed(3)
        model = create_model("16/2", task="classification", num_classes=5, memory=memory).train()
        torch.manual_seed(4)  # the same dropout; lean draws it a second time in the backward pass
        model(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for default, lean in zip(*gradients, strict=True):
        torch.testing.assert_close(default, lean)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_lean_compiled_gradients_are_the_same(dropout: float) -> None:
    images, gradients = torch.randn(4, 3, 16, 16), []
    for memory in ("default", "lean"):
        torch.manual_seed(3)
        torch._dynamo.reset()
        model = create_model("16/2", task="classification", num_classes=5, memory=memory, dropout=dropout)
        compiled = torch.compile(model.train(), fullgraph=True, backend="aot_eager_decomp_partition")
        torch.manual_seed(4)
        compiled(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for default, lean in zip(*gradients, strict=True):
        torch.testing.assert_close(default, lean)


def test_lean_compiled_recomputes_no_transposed_convolution() -> None:
    depth, batch, dim, side = 2, 3, 16, 16
    model = create_model(f"{dim}/{depth}", task="classification", num_classes=5, memory="lean").train()
    graph = backward_graph(model, torch.randn(batch, 3, side, side))
    assert convolutions(graph) == [False] * (3 * depth)  # reduction, wavelet and first 1x1, second 1x1
    maps = dim * side**2 * 4
    stem = (3 + dim // 2) * side**2 * 4
    assert (
        kept_bytes(graph, batch) <= stem + (2 * depth + 1) * maps
    )  # each block's input and expansion; the result


def test_counts_by_hand() -> None:
    model = create_model("8/1", task="classification", num_classes=3, expansion="bilinear").eval()
    pixels = 16 * 16
    stem = pixels * 9 * (3 * 4 + 4 * 8)
    block = pixels * 8 * 2 + pixels // 4 * (8 * 16 + 16 * 8)
    assert count_macs(model, torch.randn(1, 3, 16, 16)) == stem + block + 8 * 3
    assert (
        count_parameters(model)
        == (3 * 4 * 9 + 4) + (4 * 8 * 9 + 8) + 18 + (8 * 16 + 16) + (16 * 8 + 8) + 16 + 27
    )
