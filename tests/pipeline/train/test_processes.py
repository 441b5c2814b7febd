"""Several real processes under torchrun: every sample once, the figures of one process, and no hang."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.loading import open_loader
from pipeline.data.loading.batch import Batch
from pipeline.params import Params
from pipeline.train.experiment import train
from pipeline.train.trainer import Trainer
from tests import ROOT
from tests.pipeline.toy import write_shards

CURVES = Path("reports/curves.csv")
TOLERANCE = 0.05
"""Each of two processes normalises its half of a batch by that half's own statistics."""


def launch(params: Params, processes: int = 2) -> subprocess.Popen[str]:
    Path("params.yaml").write_text(params.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.Popen(
        [*command, "-m", "stages.train"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def rows() -> list[dict[str, float]]:
    with CURVES.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_train_as_one_does(toy: Callable[..., Params]) -> None:
    params = toy(phases=[{"optimizer": "adamw", "lr": 0.005, "epochs": 4}])
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
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=TOLERANCE)


def in_each_process(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every process that torchrun starts run ``code`` first."""
    (folder / "sitecustomize.py").write_text(
        "import os\nif 'RANK' in os.environ:\n" + textwrap.indent(code, "    ")
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


def watch_steps(folder: Path, window_bytes: int) -> None:
    """Have `Trainer` write what each step is given, image by image, and `streaming` take small windows."""
    step = Trainer._step
    name = f"seen-{os.environ.get('RANK', 'one')}.csv"
    open_loader.WINDOW_BYTES = window_bytes

    def watched(self: Trainer, batch: Batch, learning_rate: float) -> None:
        with (folder / name).open("a") as file:
            for image in batch.image:
                digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
                file.write(f"{self.progress.step},{digest}\n")
        step(self, batch, learning_rate)

    Trainer._step = watched  # type: ignore[method-assign]


@pytest.mark.parametrize("recipe", [[{"HorizontalFlip": {}}], [{"RandomBrightnessContrast": {"p": 1.0}}]])
def test_two_processes_stream_and_augment_what_one_does(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: list[dict[str, Any]]
) -> None:
    """Three windows of a shard each: every image of every step is the same, changed in the same way."""
    params = toy(phases=[{"optimizer": "adamw", "lr": 0.005, "epochs": 2}], augment=recipe)
    params = params.model_copy(update={"machine": params.machine.model_copy(update={"cache": "stream"})})
    window_bytes = 20 * 8 * 12 * 3
    root = ROOT
    watch = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(root)!r})
        from tests.pipeline.train.test_processes import watch_steps
        watch_steps(Path({str(tmp_path)!r}), {window_bytes})
    """
    in_each_process(textwrap.dedent(watch), tmp_path, monkeypatch)
    process = launch(params)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    two = rows()
    monkeypatch.setattr(
        Trainer, "_step", Trainer._step
    )  # put back after the test, as is the size of a window
    monkeypatch.setattr("pipeline.data.loading.open_loader.WINDOW_BYTES", 0)
    watch_steps(tmp_path, window_bytes)
    train(params, Path("checkpoints/one"), CURVES)

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
