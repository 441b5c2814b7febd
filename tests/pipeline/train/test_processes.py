"""Several real processes under torchrun: every sample once, the figures of one process, and no hang."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.params import Params
from pipeline.train.experiment import train
from tests.pipeline.toy import write_shards
from tests.pipeline.train.launched import CURVES, SMALL_WINDOW, SeenImages, launch

TOLERANCE = 1e-4
"""One process and several differ by rounding alone: they share gradients and batch statistics."""


def rows() -> list[dict[str, float]]:
    with CURVES.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def without_dropout(params: Params) -> Params:
    """Dropout is drawn by each process for its own part of a batch."""
    return params.model_copy(update={"model": params.model.model_copy(update={"dropout": 0.0})})


def test_two_processes_train_as_one_does(toy: Callable[..., Params]) -> None:
    # Adam would turn the rounding in the gradients of biases before a batch norm, which are 0, into whole steps.
    params = without_dropout(toy(phases=[{"optimizer": "sgd", "lr": 0.05, "epochs": 4}]))
    process = launch(params)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert "2 process(es)" in output
    assert "Grad strides do not match" not in output
    assert output.count("epoch   1 ") == 1
    two = rows()
    train(params, Path("checkpoints/one"), CURVES)
    one = rows()
    assert [row["step"] for row in two] == [row["step"] for row in one] == [4, 8, 12, 16]
    for ours, theirs in zip(two, one, strict=True):
        for name in ("train/loss", "val/loss"):
            assert ours[name] == pytest.approx(theirs[name], abs=TOLERANCE)


def test_all_processes_have_the_same_weights_through_phases_and_interruptions(
    toy: Callable[..., Params], tmp_path: Path
) -> None:
    phases = [
        {"optimizer": "adamw", "lr": 0.01, "epochs": 2},
        {"optimizer": "sgd", "lr": 0.01, "epochs": 2, "reload_best": True},
    ]
    params = toy(batch_size=15, phases=phases, ema=0.8, clip_grad_norm=1.0)
    process = launch(params, 3, ("resume", tmp_path))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert output.count("resuming at step 8 ") == 1
    first, *others = ((tmp_path / f"weights-{rank}.csv").read_text() for rank in range(3))
    assert [line.split(",")[0] for line in first.splitlines()] == ["0", "4", "8", "8", "12", "16"]
    assert others == [first, first]


def test_processes_that_find_other_files_say_so_instead_of_waiting(
    toy: Callable[..., Params], tmp_path: Path
) -> None:
    process = launch(toy(), 2, ("differ", tmp_path))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    shards, code = (tmp_path / "errors-0.txt").read_text().splitlines()
    assert re.match(r"process 1 on \S+: .*manifest", shards)
    assert re.match(r"process 1 on \S+ has other code than process 0 on ", code)
    assert (tmp_path / "errors-1.txt").read_text().splitlines() == [shards, code]


def in_each_process(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every process that torchrun starts run ``code`` first."""
    (folder / "sitecustomize.py").write_text(
        "import os\nif 'RANK' in os.environ:\n" + textwrap.indent(code, "    ")
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize("recipe", [[{"HorizontalFlip": {}}], [{"RandomBrightnessContrast": {"p": 1.0}}]])
def test_two_processes_stream_and_augment_what_one_does(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: list[dict[str, Any]]
) -> None:
    """Three windows of a shard each: every image of every step is the same, changed in the same way."""
    params = toy(phases=[{"optimizer": "adamw", "lr": 0.005, "epochs": 2}], augment=recipe)
    params = without_dropout(params)
    params = params.model_copy(update={"machine": params.machine.model_copy(update={"cache": "stream"})})
    process = launch(params, 2, ("stream", tmp_path))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    two = rows()
    monkeypatch.setattr("pipeline.data.loading.open_loader.WINDOW_BYTES", SMALL_WINDOW)
    train(params, Path("checkpoints/one"), CURVES, [SeenImages(tmp_path)])

    one_process, *both = (
        (tmp_path / f"seen-{name}.csv").read_text().splitlines() for name in ("one", "0", "1")
    )
    assert sorted(both[0] + both[1]) == sorted(one_process)
    assert [len(seen) for seen in both] == [50, 50]  # 25 of 50 in each of two epochs
    first_epoch = [line.split(",")[1] for line in one_process if int(line.split(",")[0]) < 4]
    assert len(set(first_epoch)) == len(first_epoch) == 50
    for ours, theirs in zip(two, rows(), strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=TOLERANCE)


def test_a_batch_that_leaves_a_process_without_samples_is_refused_in_seconds(
    toy: Callable[..., Params],
) -> None:
    params = toy(batch_size=7)
    process = launch(params)
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "the last batch of an epoch has 1 samples for 2 processes" in output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_takes_the_others_down_in_seconds(
    toy: Callable[..., Params], number: signal.Signals, tmp_path: Path
) -> None:
    write_shards(tmp_path / "data/shards/toy/8x12", counts={"train": 60, "val": 20})
    params = toy(phases=[{"optimizer": "adamw", "epochs": 2000}])
    params = params.model_copy(
        update={"machine": params.machine.model_copy(update={"checkpoint_seconds": 0.5})}
    )
    process = launch(params)
    deadline = time.monotonic() + 200
    while not list(Path(".work").glob("train/*/states/step-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(_child(process.pid, rank=1), number)
    started = time.monotonic()
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0, output
    assert time.monotonic() - started < 60
    assert not Path("checkpoints/best").exists()
    (state,) = Path(".work").glob("train/*/states")
    assert all(json.loads((folder / "state.json").read_text())["step"] > 0 for folder in state.glob("step-*"))


def _child(parent: int, rank: int) -> int:
    """The worker of ``parent`` with that rank."""
    for status in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"\0RANK={rank}\0".encode() in b"\0" + status.read_bytes():
                fields = (status.parent / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == parent:
                    return int(status.parent.name)
        except OSError:
            continue
    raise AssertionError(f"no worker with rank {rank}")
