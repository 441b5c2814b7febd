"""A disk that fills up: writes that really fail, by the kernel's limit on a file's size."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import wavemix
from pipeline.checkpoints.states import save_state
from pipeline.core.process import run_stage
from pipeline.tracking import run
from pipeline.tracking.outbox import Outbox


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes: a write takes what fits, the next one fails."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@pytest.mark.parametrize("room", [0, 20, 100])
@pytest.mark.usefixtures("workshop")
def test_points_that_do_not_fit_leave_no_half_a_line(room: int) -> None:
    path = Path("points.jsonl")
    journal = Outbox(path)
    journal.add({"loss": 1.0}, 1)
    whole = path.read_bytes()
    with files_end_at(len(whole) + room), pytest.raises(OSError):
        journal.add({"loss": 0.5, "top1": 0.5}, 2)
    assert path.read_bytes() == whole
    journal.add({"loss": 0.5, "top1": 0.5}, 2)
    journal.close()
    assert Outbox(path).waiting() == 3


def test_a_state_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    tensors = {"network": {"small": torch.zeros(8)}, "optimizer": {"large": torch.zeros(8192)}}
    with files_end_at(1024), pytest.raises(OSError):
        save_state(tmp_path / "step-000000001", tensors, {"step": 1})
    assert list(tmp_path.iterdir()) == []
    save_state(tmp_path / "step-000000001", tensors, {"step": 1})


def test_weights_that_do_not_fit_leave_those_before(tmp_path: Path) -> None:
    model = wavemix.create_model("8/1", task="classification", num_classes=3)
    wavemix.save(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_end_at(1024), pytest.raises(OSError):
        wavemix.save(wavemix.create_model("8/1", task="classification", num_classes=3), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("workshop")
def test_points_that_cannot_be_kept_are_said_and_end_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "FINISH_SECONDS", 0.5)
    tracker = run.Tracker("http://127.0.0.1:9", "toy", Path("mlflow"))
    tracker.start(name="a run")
    tracker.log_metrics({"loss": 1.0}, 1)
    with files_end_at(0):
        missing = tracker.finish()
    tracker._thread.join(60)  # later tests have a store of their own, and MLflow's is global
    assert not tracker._thread.is_alive()
    assert missing[0].startswith("1 points, which could not be kept: ")
    assert "1 points, which could not be kept: " in capsys.readouterr().out


def test_a_stage_ends_in_one_line() -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "data/shards")

    with pytest.raises(SystemExit) as ended:
        run_stage(full)
    assert ended.value.code == (
        "error: [Errno 28] No space left on device: 'data/shards'; make room and run the same again"
    )

    def broken() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError):
        run_stage(broken)
