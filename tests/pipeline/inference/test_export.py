"""Exported files give the network's own logits, for batches of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.checkpoints.trained import load_trained
from pipeline.core.errors import UserError
from pipeline.inference.exporting import export
from pipeline.models.inputs import normalise
from pipeline.params import Params

CHECKPOINT = Path("checkpoints/best")


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (count, 12, 16, 3), dtype=torch.uint8, generator=generator) for count in (1, 3)
    ]


def expected(image: Tensor) -> Tensor:
    model, _, trained = load_trained(CHECKPOINT)
    with torch.no_grad():
        logits: Tensor = model(normalise(image, trained.mean, trained.std))
    return logits[:, : len(trained.class_names)]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_torch_export(experiment: Callable[..., Params], task: str) -> None:
    experiment(task)
    program = torch.export.load(export(CHECKPOINT, "torch", Path("out"))).module()
    for image in batches():
        assert torch.allclose(program(image), expected(image), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_onnx(experiment: Callable[..., Params], task: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    experiment(task)
    session = runtime.InferenceSession(export(CHECKPOINT, "onnx", Path("out")))
    for image in batches():
        (logits,) = session.run(["logits"], {"image": image.numpy()})
        assert np.allclose(logits, expected(image).numpy(), atol=1e-4)


def test_safetensors_is_a_checkpoint_again(experiment: Callable[..., Params]) -> None:
    experiment("classification")
    export(CHECKPOINT, "safetensors", Path("out"))
    model, _, trained = load_trained(Path("out"))
    original, _, same = load_trained(CHECKPOINT)
    assert trained == same
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), original.parameters(), strict=True))


def test_an_unknown_format_is_refused(experiment: Callable[..., Params]) -> None:
    experiment("classification")
    with pytest.raises(UserError, match=r"--format onx \(did you mean 'onnx'\?\)"):
        export(CHECKPOINT, "onx", Path("out"))
