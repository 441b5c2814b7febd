"""How a stage ends: in one line where a user or the machine caused it, with a traceback where we did."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from pipeline.core.errors import UserError
from pipeline.core.process import StopSignal, run_stage


def raising(error: BaseException) -> Callable[[], None]:
    def stage() -> None:
        raise error

    return stage


def copy_onto_a_full_disk() -> None:
    raise shutil.Error([("a", "b", f"[Errno 28] {os.strerror(errno.ENOSPC)}: 'b'")])


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (raising(UserError("train.lr:\n got -1")), "train.lr: got -1"),
        (raising(UserError("class \x1b[2Jcat")), r"class \x1b[2Jcat"),
        (raising(UserError("s3://key:secret@host/bucket: not there")), "s3://***@host/bucket: not there"),
        (
            raising(OSError(errno.ENOSPC, "No space left", "x")),
            "[Errno 28] No space left: 'x'; make room and",
        ),
        (copy_onto_a_full_disk, "make room and run the same again"),
        (
            raising(PermissionError(errno.EACCES, "Permission denied", "raw.tar")),
            "Permission denied: 'raw.tar'",
        ),
        (raising(MemoryError()), "not enough memory"),
    ],
)
def test_what_a_user_or_the_machine_can_cause_is_one_line(stage: Callable[[], None], line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run_stage(stage)
    assert line in str(ended.value.code)
    assert str(ended.value.code).startswith("error: ")
    assert str(ended.value.code).isprintable()


def test_a_bug_keeps_its_traceback_without_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with pytest.raises(ZeroDivisionError) as raised:
        run_stage(raising(ZeroDivisionError("http://me:secret@host")))
    sys.excepthook(raised.type, raised.value, raised.tb)
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("ZeroDivisionError: http://***@host\n")


def test_a_stage_that_ends_well_leaves_its_process_group(tmp_path: Path) -> None:
    def stage() -> None:
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)

    run_stage(stage)
    assert not dist.is_initialized()


CHECK = """
from pipeline.core.process import run_stage, start_and_end_quickly
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # at the very end
usual = gc.get_threshold()
start_and_end_quickly()
print(gc.get_threshold()[0] > 10 * usual[0])
run_stage(lambda: print(gc.get_threshold() == usual))
sys.modules.update(dict.fromkeys(sys.argv[1:]))
"""


@pytest.mark.parametrize("loaded", [[], ["triton"]], ids=str)
def test_garbage_is_looked_for_as_usual_but_in_imports_and_at_the_end(loaded: list[str]) -> None:
    """Triton's library would print what is left to it."""
    ended = subprocess.run([sys.executable, "-c", CHECK, *loaded], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "True", str(not loaded)]


def test_an_interrupted_stage_never_ends_with_success() -> None:
    with pytest.raises(SystemExit) as ended:
        run_stage(raising(KeyboardInterrupt()))
    assert ended.value.code == 130


def test_a_signal_that_comes_twice_at_once_is_one_and_a_later_one_is_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    died: list[int] = []
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        clock[0] += 0.01
        os.kill(os.getpid(), signal.SIGTERM)
        clock[0] += 4
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGTERM
        monkeypatch.setattr(os, "kill", lambda _, number: died.append(number))
        clock[0] += 2
        signal.raise_signal(signal.SIGTERM)
    assert died == [signal.SIGTERM]
