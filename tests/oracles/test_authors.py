"""The authors' weights give the authors' logits: against answers recorded by record_authors.py."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import wavemix
from wavemix import WaveMixLite

HERE = Path(__file__).parent
CASES = json.loads((HERE / "authors.json").read_text())


def recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_authors", HERE / "record_authors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(case: dict[str, Any], **changes: Any) -> WaveMixLite:
    theirs = case["keywords"]
    patches = theirs.get("initial_conv") == "pachify"
    keywords = {
        "task": "classification" if case["module"] == "classification" else "segmentation",
        "num_classes": theirs["num_classes"],
        "levels": theirs["level"],
        "family": "wavemix",
        "patch_size": theirs["patch_size"] if patches else None,
        "stem_stride": 1 if patches else theirs["stride"],
    }
    return wavemix.create_model("16/2 ff12 mul3", **(keywords | changes))


def state_dict(case: dict[str, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = recorder().fill(case["shapes"], case["seed"])
    return state


def label(case: dict[str, Any]) -> str:
    return f"{case['module']}-{case['seed']}"


@pytest.mark.parametrize("case", CASES, ids=label)
def test_same_logits(case: dict[str, Any]) -> None:
    recorded = torch.tensor(case["logits"])
    images = recorder().images(case["size"], case["seed"])
    assert recorder().digest(images) == case["images"]
    model = build(case)
    wavemix.load_authors_state_dict(model, state_dict(case))
    for form in (model.eval(), model.fuse()):
        with torch.no_grad():
            logits = form(images)
        assert list(logits.shape) == case["shape"]
        flat = logits.flatten()
        torch.testing.assert_close(flat[:: max(1, flat.numel() // 40)], recorded, atol=1e-4, rtol=1e-5)


def test_one_level_is_wavemix_lite_and_data_parallel_loads() -> None:
    case = CASES[0]
    wrapped = {f"module.{name}": tensor for name, tensor in state_dict(case).items()}
    model = build(case, family="wavemix-lite").eval()
    wavemix.load_authors_state_dict(model, wrapped)
    with torch.no_grad():
        logits = model(recorder().images(case["size"], case["seed"]))
    torch.testing.assert_close(logits.flatten(), torch.tensor(case["logits"]), atol=1e-4, rtol=1e-5)


def test_band_order_matters() -> None:
    """The check above would notice details that are not interleaved per channel."""
    case = CASES[0]
    state = state_dict(case)
    weight = state["layers.0.feedforward.0.weight"]
    details = weight[:, 4:].reshape(-1, 4, 3, 1, 1).transpose(1, 2).reshape(-1, 12, 1, 1)
    state["layers.0.feedforward.0.weight"] = torch.cat([weight[:, :4], details], dim=1)
    model = build(case).eval()
    wavemix.load_authors_state_dict(model, state)
    with torch.no_grad():
        logits = model(recorder().images(case["size"], case["seed"]))
    assert not torch.allclose(logits.flatten(), torch.tensor(case["logits"]), atol=1e-2)


def test_weights_of_another_model_are_named() -> None:
    model = build(CASES[0], levels=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"another model.*missing \(blocks.0.feedforwards.2.widen.weight"):
        wavemix.load_authors_state_dict(model, state_dict(CASES[0]))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_foreign_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"'backbone\.weight' is no tensor of the authors'"):
        wavemix.load_authors_state_dict(build(CASES[0]), {"backbone.weight": torch.zeros(1)})
