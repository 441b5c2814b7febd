"""The network outside eager PyTorch: compiled whole, exported, in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavemix import create_model

SEGMENT: dict[str, Any] = {"task": "segmentation", "num_classes": 4, "stem_stride": 2}
BATCH = torch.export.Dim("batch")


@pytest.mark.parametrize(
    "changes",
    [{}, {"memory": "lean"}, {"family": "wavemix", "levels": 2}, {"wavelet": "db2", "learnable": True}],
)
def test_compiles_without_a_graph_break(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = create_model("8/1", dropout=0.0, **(SEGMENT | changes)).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    images, gradients = torch.randn(2, 3, 33, 40), []
    for form in (model, compiled):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = form(images)
        assert logits.dtype == torch.bfloat16
        gradients.append(torch.autograd.grad(logits.float().square().mean(), list(model.parameters())))
    for eager, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, eager, atol=0.05 * eager.abs().max().item() + 1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["default", "lean"])
def test_inductor_trains(memory: str) -> None:
    torch._dynamo.reset()
    model = create_model("8/1", memory=memory, **SEGMENT).train()
    logits = torch.compile(model, fullgraph=True)(torch.randn(2, 3, 32, 32))
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("fuse", [False, True])
def test_exports_with_any_batch(fuse: bool) -> None:
    model = create_model("8/1", **SEGMENT).eval()
    form = model.fuse() if fuse else model
    program = torch.export.export(
        form, (torch.randn(2, 3, 33, 40),), dynamic_shapes=({0: BATCH},), strict=True
    )
    images = torch.randn(5, 3, 33, 40)
    torch.testing.assert_close(program.module()(images), model(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("keywords", [SEGMENT, {"task": "classification", "num_classes": 4, "dim": 64}])
def test_onnx_runtime_gives_the_same_logits_for_any_batch(keywords: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = create_model("8/1", **keywords).eval()
    example = (torch.randn(2, 3, 33, 40),)
    program = torch.onnx.export(
        model.fuse(), example, dynamo=True, dynamic_shapes=({0: BATCH},), verbose=False
    )
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(5, 3, 33, 40)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(images).numpy(), atol=1e-4, rtol=1e-4)
