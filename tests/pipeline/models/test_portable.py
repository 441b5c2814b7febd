"""Networks in half precision, compiled and exported."""

from __future__ import annotations

import pytest
import torch

from tests.pipeline.models.networks import SMALL, small

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", SMALL)
def test_a_network_trains_in_bfloat16(family: str) -> None:
    torch.manual_seed(0)
    model, demands = small(family)
    network = model.build(demands)
    images = torch.randn(2, 3, *demands.size)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
    logits.float().square().mean().backward()
    assert logits.isfinite().all()
    gradients = [weights.grad for weights in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("family", SMALL)
def test_a_network_compiles_whole_with_its_backward_pass(family: str) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    model, demands = small(family)
    network = model.build(demands).eval()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=False)
    images = torch.randn(2, 3, *demands.size)
    logits = compiled(images)
    logits.square().mean().backward()
    assert torch.allclose(logits, network(images), atol=1e-4)


@pytest.mark.parametrize("family", SMALL)
def test_a_network_exports_with_a_free_batch_size(family: str) -> None:
    torch.manual_seed(0)
    model, demands = small(family)
    network = model.for_inference(model.build(demands))
    batch = torch.export.Dim("batch", min=1, max=65536)
    exported = torch.export.export(network, (torch.randn(2, 3, *demands.size),), dynamic_shapes=({0: batch},))
    images = torch.randn(3, 3, *demands.size)
    assert torch.allclose(exported.module()(images), network(images), atol=1e-4)
