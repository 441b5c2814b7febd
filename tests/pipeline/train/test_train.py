"""Training on toy shards: it learns, resumes to the same weights, and refuses what cannot work."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from pipeline.checkpoints import states
from pipeline.checkpoints.states import StateFolder
from pipeline.checkpoints.trained import Trained, load_trained
from pipeline.core.errors import UserError
from pipeline.params import Params
from pipeline.tasks.classification_metrics import ClassificationMetrics
from pipeline.tasks.metrics import Mean
from pipeline.train.experiment import train
from pipeline.train.observers.base import Observer
from pipeline.train.step import step_seed
from tests.pipeline.interrupted import CutOff, Interrupted

OUT, CURVES = Path("checkpoints/best"), Path("reports/curves.csv")
TWO_PHASES = [{"optimizer": "adamw", "steps": 7, "warmup": {"steps": 2}}, {"optimizer": "sgd", "epochs": 2}]


def run(params: Params, *observers: Observer) -> Trained:
    return train(params, OUT, CURVES, observers)


def weights() -> dict[str, torch.Tensor]:
    return load_file(OUT / "model.safetensors")


@pytest.mark.parametrize(("task", "metric"), [("classification", "top1"), ("segmentation", "miou")])
def test_learns_the_toy(toy: Callable[..., Params], task: str, metric: str) -> None:
    trained = run(toy(task, phases=[{"optimizer": "adamw", "lr": 0.01, "epochs": 12}]))
    assert trained.metric == f"val/{metric}"
    assert trained.value > 0.85
    rows = CURVES.read_text().splitlines()
    assert len(rows) == 13
    assert rows[0].startswith(f"epoch,step,train/loss,val/loss,val/{metric}")
    model, _, described = load_trained(OUT)
    assert described == trained
    assert not model.training


AUGMENTED = {
    "device": [{"HorizontalFlip": {}}, {"Pad": {"padding": 1}}, {"RandomCrop": {"height": 8, "width": 12}}],
    "host": [{"HorizontalFlip": {}}, {"RandomBrightnessContrast": {"p": 0.5}}],
}


@pytest.mark.parametrize(
    ("stop_at", "amp", "augment", "cache"),
    [
        *itertools.product([2, 5, 8, 9], ["off", "bf16"], [None], ["host"]),
        (5, "off", "device", "host"),
        (5, "off", "host", "host"),
        (9, "off", "device", "stream"),
        (2, "off", "host", "stream"),
    ],
)
def test_a_run_cut_off_anywhere_ends_with_the_same_weights(
    toy: Callable[..., Params],
    stop_at: int,
    amp: str,
    augment: str | None,
    cache: str,
) -> None:
    """Four steps an epoch: 2 and 5 lie within the first phase's epochs, 8 on the border of one, 9 in the second."""
    recipe = AUGMENTED[augment] if augment else []
    params = toy(phases=TWO_PHASES, ema=0.8, clip_grad_norm=1.0, amp=amp, augment=recipe)
    run(params)
    whole = weights()

    always = params.model_copy(
        update={"machine": params.machine.model_copy(update={"checkpoint_seconds": 0.0, "cache": cache})}
    )
    with pytest.raises(Interrupted):
        run(always, CutOff("before_step", lambda state: state.progress.step == stop_at))
    run(always)
    assert weights().keys() == whole.keys()
    for name, tensor in weights().items():
        assert torch.equal(tensor, whole[name]), name
    assert len(CURVES.read_text().splitlines()) == 5


def test_cut_off_between_an_epoch_and_its_validation(toy: Callable[..., Params]) -> None:
    """The state of the last step is there, that of the epoch is not: the validation alone is made up for."""
    phases = [{"optimizer": "adamw", "epochs": 3, "schedule": "cosine"}]
    params = toy(phases=phases)
    run(params)
    whole, curves = weights(), read_curves()
    always = params.model_copy(
        update={"machine": params.machine.model_copy(update={"checkpoint_seconds": 0.0})}
    )
    with pytest.raises(Interrupted):
        run(always, CutOff("before_validation", lambda state: state.progress.epoch == 1))
    run(always)
    for name, tensor in weights().items():
        assert torch.equal(tensor, whole[name]), name
    again = read_curves()
    assert all(row.pop("train/images_per_second") > 0 for row in curves + again)
    assert all(row.pop("system/peak_memory_gb") > 0 for row in curves + again)
    assert again == curves


def read_curves() -> list[dict[str, float]]:
    with CURVES.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def write_params(params: Params) -> None:
    Path("params.yaml").write_text(params.model_dump_json())


def newest_checkpoint() -> str:
    return max((folder.name for folder in Path(".work").glob("train/*/states/step-*")), default="")


def wait_for_checkpoint(process: subprocess.Popen[str], before: str) -> None:
    """Until ``process`` has saved one newer than ``before``."""
    deadline = time.monotonic() + 400
    while newest_checkpoint() == before:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_and_asked_to_stop_it_goes_on_from_there(toy: Callable[..., Params]) -> None:
    params = toy(phases=[{"optimizer": "adamw", "epochs": 60}])
    often = params.model_copy(
        update={"machine": params.machine.model_copy(update={"checkpoint_seconds": 0.0})}
    )
    write_params(often)
    killed = start()
    wait_for_checkpoint(killed, before="")
    killed.kill()
    killed.wait()

    stopped = start()
    read_until(stopped, "resuming at step")
    stopped.send_signal(signal.SIGTERM)
    output = stopped.communicate()[0]
    assert stopped.returncode == 128 + signal.SIGTERM, output
    assert "stopped by SIGTERM at step" in output
    assert not OUT.exists()

    finished = start()
    output = finished.communicate()[0]
    assert finished.returncode == 0, output
    assert "resuming at step" in output
    resumed = weights()

    run(often.model_copy(update={"machine": params.machine}))
    for name, tensor in weights().items():
        assert torch.equal(tensor, resumed[name]), name


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """The first line of ``process`` with ``words`` in it."""
    assert process.stdout is not None
    return next(line for line in process.stdout if words in line)


def test_two_at_once_on_one_training_take_turns(toy: Callable[..., Params]) -> None:
    write_params(toy(phases=[{"optimizer": "adamw", "epochs": 2000}]))
    first = start()
    wait_for_checkpoint(first, before="")
    second = start()
    assert f"waiting for process {first.pid} on " in read_until(second, "waiting")
    assert first.poll() is None
    first.terminate()
    assert "stopped by SIGTERM at step" in first.communicate()[0]
    assert "resuming at step" in read_until(second, "resuming")
    second.terminate()
    assert second.wait() == 128 + signal.SIGTERM
    assert not list(Path(".work/train").glob("*.lock"))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    params = toy(phases=TWO_PHASES)
    run(params)
    whole = weights()
    with pytest.raises(Interrupted):
        run(params, CutOff("before_validation", lambda state: state.progress.epoch == 2))
    newest = max(Path(".work").glob("train/*/states/step-*"))
    (newest / "network.safetensors").write_bytes(b"half a file")
    run(params)
    assert f"checkpoint {newest.name} is damaged" in capsys.readouterr().out
    for name, tensor in weights().items():
        assert torch.equal(tensor, whole[name]), name


def test_changed_params_start_anew(toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted):
        run(toy(), CutOff("after_validation", lambda state: state.progress.epoch == 1))
    run(toy(seed=1))
    assert "resuming" not in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_and_says_that_nothing_was_saved(toy: Callable[..., Params]) -> None:
    with pytest.raises(
        UserError, match=r"not finite at step \d+ .*none was saved before; lower train.phases' lr"
    ):
        run(toy(phases=[{"optimizer": "sgd", "lr": 1e20, "epochs": 3}]))
    assert not OUT.exists()


def test_what_a_killed_save_left_goes_before_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".step-000000001.part"
    left.mkdir()
    with StateFolder(tmp_path) as states:
        for step in range(2, 6):
            states.save(step, {"network": {"weight": torch.full((3,), float(step))}}, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004", "step-000000005"]


def test_a_state_is_saved_as_it_was_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training changes its weights in place while the state of a moment ago is being written."""
    changed = threading.Event()
    write = states.save_state

    def late(*arguments: Any) -> None:
        changed.wait(20)
        write(*arguments)

    monkeypatch.setattr(states, "save_state", late)
    weight = torch.ones(3)
    with StateFolder(tmp_path) as folder:
        folder.save(1, {"network": {"weight": weight}}, {"step": 1})
        weight.zero_()
        changed.set()
    saved = folder.latest()
    assert saved is not None
    assert saved[0]["network"]["weight"].tolist() == [1, 1, 1]


def test_a_full_disk_costs_a_checkpoint_not_the_training(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.checkpoints.states.save_state", full)
    run(toy())
    warning = capsys.readouterr().err
    assert "no checkpoint at step 4 in " in warning
    assert ": [Errno 28] No space left on device" in warning


def test_repeats_are_nested_runs_of_which_the_best_is_kept(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    best = run(toy(repeats=3, seed=5))
    store = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    children = [one for one in runs if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(one.data.params["train.seed"] for one in children) == ["5", "6", "7"]
    tops = [max(p.value for p in store.get_metric_history(one.info.run_id, "val/top1")) for one in children]
    assert parent.data.metrics["val/top1/best"] == max(tops) == best.value
    assert parent.data.metrics["val/top1/mean"] == pytest.approx(sum(tops) / 3)
    assert "of 3 trainings: best" in capsys.readouterr().out
    assert list(Path(".work/train").iterdir()) == []


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_weight(toy: Callable[..., Params]) -> None:
    params = toy(phases=[{"optimizer": "adamw", "epochs": 500}, {"optimizer": "sgd", "epochs": 100}], ema=0.9)
    often = params.model_copy(
        update={"machine": params.machine.model_copy(update={"checkpoint_seconds": 0.0})}
    )
    write_params(often)
    moments = random.Random(0)
    for _ in range(20):
        before, process = newest_checkpoint(), start()
        wait_for_checkpoint(process, before)
        time.sleep(moments.uniform(0, 0.5))
        assert process.poll() is None, "it ended before the storm did"
        process.kill()
        process.wait()
    finished = start()
    output = finished.communicate()[0]
    assert finished.returncode == 0, output
    stormy = weights()
    run(params)
    for name, tensor in weights().items():
        assert torch.equal(tensor, stormy[name]), name


def test_patience_ends_a_phase(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ClassificationMetrics, "compute", lambda _: {"top1": 0.5})
    monkeypatch.setattr(Mean, "compute", lambda _: 1.0)
    trained = run(
        toy(phases=[{"optimizer": "adamw", "epochs": 50, "patience": 2}, {"optimizer": "sgd", "epochs": 2}])
    )
    assert trained.epoch == 1
    assert len(CURVES.read_text().splitlines()) - 1 == 1 + 2 + 2
    assert " at most, " in capsys.readouterr().err
    run(toy())
    assert "at most" not in capsys.readouterr().err


def test_a_phase_can_start_from_the_best_weights(toy: Callable[..., Params]) -> None:
    phases = [
        {"optimizer": "adamw", "lr": 0.01, "epochs": 6},
        {"optimizer": "sgd", "lr": 1e-30, "momentum": 0, "epochs": 1, "reload_best": True},
    ]
    trained = run(toy(phases=phases))
    header, *rows = (line.split(",") for line in CURVES.read_text().splitlines())
    losses = [float(row[header.index("val/top1")]) for row in rows]
    # Batch statistics move during that epoch, the weights do not.
    assert losses[-1] == pytest.approx(trained.value, abs=0.15)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            "train",
            {"batch_size": 51, "phases": [{"optimizer": "adamw", "epochs": 1}]},
            "the train split has 50 samples",
        ),
        ("model", {"dim": 10, "depth": 1}, "params.yaml: model: .*dim"),
        ("model", {"dim": 8, "depth": 1, "levels": 9}, "params.yaml: model: .*levels"),
        ("model", {"dim": 8, "depth": 1, "wavelet": "harr"}, "params.yaml: model: .*haar"),
        ("machine", {"device": "cuda"}, "machine.device: got 'cuda', this machine has"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    toy: Callable[..., Params], section: str, values: dict[str, Any], message: str
) -> None:
    if section == "machine" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    known = json.loads(toy().model_dump_json())
    with pytest.raises(UserError, match=message):
        run(Params.model_validate_json(json.dumps(known | {section: values})))
    assert not Path(".work").exists()


def test_step_seeds_differ_by_seed_rank_and_step() -> None:
    seeds = {step_seed(seed, rank, step) for seed in range(3) for rank in range(3) for step in range(100)}
    assert len(seeds) == 900


def test_a_folder_is_empty_until_a_state_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"network": {"weight": torch.zeros(3)}}
    with StateFolder(tmp_path / "states") as saved:
        assert saved.is_empty()
        saved.save(1, tensors, {"step": 1})
        assert not saved.is_empty()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(states, "save_state", no_space)
    with StateFolder(tmp_path / "full") as lost:
        lost.save(1, tensors, {"step": 1})
        assert lost.is_empty()
