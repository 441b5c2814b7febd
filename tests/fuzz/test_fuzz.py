"""Mutants of all that the project opens: read or refused, never a signal, a hang, a traceback or a silent change."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from pipeline.core.errors import UserError
from tests import ROOT
from tests.fuzz import runner
from tests.fuzz.base import Format, Part
from tests.fuzz.mend import png_checksums, tar_checksums
from tests.fuzz.mutation import mutate
from tests.fuzz.runner import run
from tests.pipeline.data.readers.raw import tar_of
from tests.pipeline.workshop import noise, png


def _run_all(*options: str) -> None:
    """Run the command in an interpreter of its own: forking needs one without threads."""
    command = [sys.executable, "-m", "tests.fuzz", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_few_mutants_of_every_format_do_no_harm() -> None:
    _run_all("--mutants", "300")


@pytest.mark.slow
def test_many_mutants_of_every_format_do_no_harm() -> None:
    _run_all("--mutants", "20000", "--first", "1000000")


def _planted(use: object, *, checked: bool = False) -> Format:
    """A format of one byte that is opened by ``use``; the genuine file is let through."""

    def open_file(folder: Path) -> object:
        content = (folder / "file").read_bytes()
        return content if content == b"0123456789" else use()  # type: ignore[operator]

    return Format(lambda: [{"file": Part(b"0123456789")}], open_file, checked)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (lambda: os.kill(os.getpid(), 11), "signal: SIGSEGV"),
        (lambda: os._exit(3), "exit: the process ended with 3"),
        (lambda: [][0], "traceback: IndexError"),
        (lambda: bytearray(1 << 30), "memory"),
    ],
)
def test_harm_is_reported_with_its_seed_and_the_next_mutant_is_served(use: object, kind: str) -> None:
    outcome = run(_planted(use), "planted", range(3), limit=1 << 28)
    assert [seed for seed, _ in outcome.faults] == [0, 1, 2]
    assert all(what.startswith(kind) for _, what in outcome.faults), outcome.faults


@pytest.mark.parametrize("use", [lambda: sum(iter(int, 1)), lambda: time.sleep(60)])
def test_a_hang_is_ended(use: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CPU_SECONDS", 1)
    monkeypatch.setattr(runner, "SECONDS", 2)
    ((seed, what),) = run(_planted(use), "planted", [5]).faults
    assert (seed, what.partition(":")[0]) == (5, "hang")


def test_what_is_read_otherwise_than_it_was_written_is_a_silent_change() -> None:
    assert run(_planted(lambda: b"other", checked=True), "planted", [1]).counts == {"silent change": 1}
    assert run(_planted(lambda: b"0123456789", checked=True), "planted", [1]).counts == {"read": 1}


def test_a_refusal_is_no_fault() -> None:
    outcome = run(_planted(lambda: _raise(UserError("damaged"))), "planted", range(4))
    assert (outcome.counts, outcome.faults) == ({"refused": 4}, [])


def test_genuine_files_that_cannot_be_opened_end_the_run() -> None:
    form = Format(lambda: [{"file": Part(b"x")}], lambda _: _raise(UserError("damaged")))
    with pytest.raises(AssertionError, match="genuine files cannot be opened"):
        run(form, "planted", [0])


def test_a_mutant_follows_from_its_seed() -> None:
    content = bytes(range(256)) * 4
    mutants = [mutate(content, Random(f"png {seed}"), [content]) for seed in range(40)]
    assert mutants == [mutate(content, Random(f"png {seed}"), [content]) for seed in range(40)]
    assert sum(mutant != content for mutant in mutants) > 30


def test_mended_checksums_are_those_of_the_writers() -> None:
    for data, mend, at in ((png(noise(5, 5)), png_checksums, 30), (tar_of({"a": b"x"}), tar_checksums, 150)):
        assert mend(data) == data
        damaged = bytearray(data)
        damaged[at] ^= 1  # of a checksum
        assert mend(bytes(damaged)) == data
