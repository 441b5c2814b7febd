"""A training that starts from the weights of an earlier one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.checkpoints.pretrained import weights_digest
from pipeline.core.errors import UserError
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.params import Params
from pipeline.train.experiment import train
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from pipeline.train.training import prepare_training
from tests.pipeline.interrupted import CutOff

EARLIER = Path("earlier")
STILL = {"optimizer": "sgd", "lr": 1e-30, "momentum": 0, "epochs": 1}
"""A phase that moves no weight, only the batch statistics."""


@pytest.fixture
def earlier(toy: Callable[..., Params]) -> Callable[..., Params]:
    """``toy``, where a network was trained and lies in ``EARLIER``."""
    run(toy())
    shutil.copytree("checkpoints/best", EARLIER)
    return toy


def run(params: Params, *observers: Observer) -> None:
    train(params, Path("checkpoints/best"), Path("reports/curves.csv"), observers)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def at_start(params: Params) -> dict[str, torch.Tensor]:
    """The weights before the first step."""
    folder = shards_folder(params.data, params.size)
    return prepare_training(params, read_manifest(folder), folder, Path("work")).state.network.state_dict()


def change_description(**changes: Any) -> None:
    path = EARLIER / "training.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_a_frozen_backbone_keeps_its_weights_while_the_head_learns(earlier: Callable[..., Params]) -> None:
    phases = [{"optimizer": "adamw", "lr": 0.1, "epochs": 2, "backbone_lr": 0.0}]
    run(earlier(pretrained=str(EARLIER), phases=phases))
    before, after = weights(EARLIER), weights(Path("checkpoints/best"))
    trained = set(before) - {name for name in before if "running_" in name or "num_batches" in name}
    changed = {name for name in trained if not torch.equal(before[name], after[name])}
    assert changed == {name for name in trained if name.startswith("head.")}


def test_starts_from_them_and_trains_on(earlier: Callable[..., Params]) -> None:
    params = earlier(pretrained=str(EARLIER), phases=[STILL], seed=1)
    before = weights(EARLIER)
    for name, tensor in at_start(params).items():
        assert torch.equal(tensor, before[name]), name
    run(params)
    trained = [name for name in before if "running" not in name and "num_batches" not in name]
    assert trained
    after = weights(Path("checkpoints/best"))
    for name in trained:
        assert torch.equal(after[name], before[name]), name
    store = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    tagged = [one.data.tags.get("pretrained.hash") for one in store.search_runs(["0", "1"])]
    assert tagged.count(weights_digest(EARLIER)[:32]) == 1
    assert tagged.count(None) == 1


@pytest.mark.parametrize("changes", [{"class_names": ["cyan", "green", "blue"]}, {"task": "multilabel"}])
def test_for_other_classes_or_another_task_the_head_starts_anew(
    earlier: Callable[..., Params], capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    change_description(**changes)
    before, fresh = weights(EARLIER), at_start(earlier())
    for name, tensor in at_start(earlier(pretrained=str(EARLIER))).items():
        assert torch.equal(tensor, (fresh if name.startswith("head.") else before)[name]), name
    assert "the head starts anew" in capsys.readouterr().out


def test_from_classes_of_images_to_masks(earlier: Callable[..., Params]) -> None:
    before = weights(EARLIER)
    shutil.rmtree("data/shards/toy/8x12")
    run(earlier("segmentation", pretrained=str(EARLIER), phases=[STILL]))
    after = weights(Path("checkpoints/best"))
    body = [name for name in before if name.endswith("weight") and not name.startswith("head.")]
    assert body
    for name in body:
        assert torch.equal(after[name], before[name]), name
    assert after.keys() != before.keys()


def test_a_network_of_another_size_is_refused(earlier: Callable[..., Params]) -> None:
    params = earlier(pretrained=str(EARLIER))
    wider = params.model_copy(update={"model": params.model.model_copy(update={"dim": 16})})
    with pytest.raises(UserError, match=r"another model.*make params.yaml's model that of .*config.json"):
        at_start(wider)


def test_a_folder_without_a_network_is_refused(toy: Callable[..., Params]) -> None:
    with pytest.raises(UserError, match=r"train.pretrained: .*/nowhere: no trained network here"):
        run(toy(pretrained="nowhere"))


def test_other_weights_under_the_same_name_never_resume_a_stale_state(
    earlier: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    params = earlier(pretrained=str(EARLIER), seed=1)
    second_epoch = CutOff("after_validation", lambda state: state.progress.epoch == 1, KeyboardInterrupt)
    with pytest.raises(SystemExit):
        run(params, second_epoch)
    kept = shutil.copytree(EARLIER, "kept")
    run(earlier(seed=2))
    shutil.copytree("checkpoints/best", EARLIER, dirs_exist_ok=True)
    capsys.readouterr()
    run(params)
    assert "resuming" not in capsys.readouterr().out

    shutil.copytree(kept, EARLIER, dirs_exist_ok=True)
    run(params)
    assert "resuming at step" in capsys.readouterr().out


class DeletesThem(Observer):
    def before_validation(self, state: TrainingState) -> None:  # noqa: ARG002
        shutil.rmtree(EARLIER, ignore_errors=True)


def test_they_are_not_needed_once_it_has_begun(earlier: Callable[..., Params]) -> None:
    run(earlier(pretrained=str(EARLIER), seed=1), DeletesThem())
    assert not EARLIER.exists()
    assert Path("checkpoints/best/model.safetensors").exists()
