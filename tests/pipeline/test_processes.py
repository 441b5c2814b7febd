"""Several real processes under torchrun: every sample once, the figures of one process, and no hang."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.params import Params
from pipeline.train import train
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
    assert output.count("epoch   1 ") == 1
    two = rows()
    train(params, Path("checkpoints/one"), CURVES)
    one = rows()
    assert [row["step"] for row in two] == [row["step"] for row in one] == [4, 8, 12, 16]
    for ours, theirs in zip(two, one, strict=True):
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
