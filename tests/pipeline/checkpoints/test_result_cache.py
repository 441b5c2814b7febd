"""A training that has ended is kept until DVC has recorded it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.checkpoints import result_cache
from pipeline.checkpoints.trained import Trained
from pipeline.core import source_code
from pipeline.params import Params
from pipeline.train.experiment import train, train_once
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from tests import ROOT
from tests.pipeline.interrupted import CutOff, Interrupted

OUT, CURVES = Path("checkpoints/best"), Path("reports/curves.csv")
FORBIDDEN = (CutOff("before_step", lambda _: True),)
"""Observers that let no training do a step."""


def kept() -> list[Path]:
    return list(Path(".work/trained").glob("*"))


def copy_of_the_code(edited: str) -> Path:
    """A folder with a copy of the packages in which a file of `pipeline` is another."""
    for package in ("pipeline", "wavemix"):
        shutil.copytree(ROOT / package, f"changed/{package}", ignore=shutil.ignore_patterns("__pycache__"))
    Path("changed/pipeline", edited).write_text("")
    return Path("changed").resolve()


def clear_outputs() -> None:
    """As DVC does before it runs the stage."""
    shutil.rmtree(OUT)
    CURVES.unlink()


@pytest.mark.parametrize("repeats", [1, 2])
def test_outputs_that_were_lost_come_back_without_training(toy: Callable[..., Params], repeats: int) -> None:
    params = toy(repeats=repeats)
    trained = train(params, OUT, CURVES)
    weights, rows = load_file(OUT / "model.safetensors"), CURVES.read_bytes()
    names = {path.name for path in OUT.iterdir()}
    clear_outputs()
    assert train_once(params, OUT, CURVES, FORBIDDEN) == trained
    assert (
        names
        == {path.name for path in OUT.iterdir()}
        == {"model.safetensors", "config.json", "training.json"}
    )
    assert CURVES.read_bytes() == rows
    for name, tensor in load_file(OUT / "model.safetensors").items():
        assert torch.equal(tensor, weights[name])
    # Lost once more, as on a disk that is still full.
    clear_outputs()
    assert train_once(params, OUT, CURVES, FORBIDDEN) == trained


def test_killed_before_its_work_was_cleared(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if path.parent.name == "train":
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            train(toy(), OUT, CURVES)
    assert list(Path(".work/train").iterdir())
    train_once(toy(), OUT, CURVES)
    assert list(Path(".work/train").iterdir()) == []


def test_other_params_data_or_code_are_another_training(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy(), OUT, CURVES)

    with pytest.raises(Interrupted):
        train_once(toy(seed=1), OUT, CURVES, FORBIDDEN)
    manifest = Path("data/shards/toy/8x12/manifest.json")
    content = manifest.read_text()
    manifest.write_text(content + " ")
    with pytest.raises(Interrupted):
        train_once(toy(), OUT, CURVES, FORBIDDEN)
    manifest.write_text(content)
    with monkeypatch.context() as patched:
        patched.setattr(source_code, "ROOT", copy_of_the_code("tasks/losses.py"))
        with pytest.raises(Interrupted):
            train_once(toy(), OUT, CURVES, FORBIDDEN)
    train_once(toy(), OUT, CURVES, FORBIDDEN)


@pytest.mark.parametrize(
    "edited", ["report/page.py", "evaluate/plots.py", "data/readers/cifar.py", "cli/parser.py"]
)
def test_code_that_changes_no_weight_discards_no_training(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    trained = train(toy(), OUT, CURVES)
    monkeypatch.setattr(source_code, "ROOT", copy_of_the_code(edited))
    assert train_once(toy(), OUT, CURVES, FORBIDDEN) == trained


def test_the_code_that_counts_is_that_of_the_beginning(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = copy_of_the_code("tasks/losses.py")

    with monkeypatch.context() as patched:

        class EditsMeanwhile(Observer):
            def before_validation(self, state: TrainingState) -> None:  # noqa: ARG002
                patched.setattr(source_code, "ROOT", changed)

        trained = train(toy(), OUT, CURVES, [EditsMeanwhile()])
    assert train_once(toy(), OUT, CURVES, FORBIDDEN) == trained


def test_what_was_evaluated_is_forgotten_and_nothing_else(toy: Callable[..., Params]) -> None:
    first: Trained = train(toy(), Path("first"), CURVES)
    train(toy(seed=1), Path("second"), CURVES)
    assert len(kept()) == 2
    result_cache.forget(Path("second"))
    assert len(kept()) == 1
    assert train_once(toy(), OUT, CURVES) == first
    result_cache.forget(OUT)
    assert kept() == []
    result_cache.forget(OUT)


def test_only_the_first_of_several_processes_forgets(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy(), OUT, CURVES)
    monkeypatch.setenv("RANK", "1")
    result_cache.forget(OUT)
    assert len(kept()) == 1
