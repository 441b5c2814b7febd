"""A trained network's folder, of which any file may come from strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints.trained import Trained, load_trained, save_trained
from pipeline.core.errors import UserError
from pipeline.models import NetworkSpec, build_network, parse_model

DESCRIPTION: dict[str, Any] = {
    "data": "toy", "task": "classification", "class_names": ["a", "b", "c"], "palette": None, "size": [32, 32],
    "channels": 3, "filter": "box", "geometry": "squash", "mean": [0.5] * 3, "std": [0.2] * 3, "parameters": 1,
    "epoch": 1, "step": 1, "metric": "val/top1", "value": 0.5, "run_id": None,
}  # fmt: skip
FAMILIES = [{"dim": 8, "depth": 1}, {"family": "cpv", "dim": 8, "depth": 1, "heads": 2}]


@pytest.fixture(params=FAMILIES, ids=["wavemix-lite", "cpv"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A network of three classes in colour at 32x32."""
    model = parse_model(request.param)
    spec = NetworkSpec(spatial=False, outputs=3, channels=3, size=(32, 32))
    trained = Trained.model_validate_json(json.dumps(DESCRIPTION))
    save_trained(build_network(model, spec), model, spec, trained, tmp_path / "best")
    return tmp_path / "best"


def test_a_network_of_any_family_is_read_as_it_was_written(folder: Path) -> None:
    loaded = load_trained(folder)
    assert loaded.trained == Trained.model_validate_json(json.dumps(DESCRIPTION))
    assert not loaded.network.training
    assert loaded.for_inference()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ["a"]},
        {"class_names": list("abcd")},
        {"class_names": []},
        {"task": "segmentation"},
        {"task": "segmentation", "class_names": ["a", "b"]},
        {"channels": 1, "mean": [0.5], "std": [0.2]},
        {"mean": [0.5]},
        {"std": [0.2, 0.2, 0.0]},
        {"std": [0.2, 0.2, -1.0]},
        {"filter": "bogus"},
        {"geometry": "bogus"},
        {"precise_bn": -1},
        {"size": [0, 0]},
        {"size": [1, 1]},
        {"size": [10**9, 10**9]},
    ],
    ids=str,
)
def test_a_description_of_another_network_is_refused(changes: dict[str, Any], folder: Path) -> None:
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
    with pytest.raises(UserError, match="not a whole trained network: ") as caught:
        load_trained(folder)
    assert "\n" not in str(caught.value)
