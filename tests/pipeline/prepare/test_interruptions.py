"""Preparing is cut off in every way there is; what comes out is what an undisturbed run gives."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipeline.core.errors import UserError
from pipeline.core.locks import exclusive_lock
from pipeline.core.storage import Storage
from pipeline.data.raw.fingerprint import fingerprint_file, read_fingerprint
from pipeline.data.shards.verify import verify
from pipeline.data.shards.writer import ShardWriter
from pipeline.params import load_params
from pipeline.prepare import executors
from pipeline.prepare.preparation import Places
from tests import ROOT
from tests.pipeline.workshop import Workshop, noise, png, wait_for

REPOSITORY = ROOT


def write_params(workshop: Workshop, workers: int) -> None:
    params = workshop.params(workers=workers, samples_per_shard=8, sizes=[[32, 32], [16, 16]])
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json", exclude_defaults=True)))


def stage(name: str, **kwargs: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{name}", "own"]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **kwargs
    )


def large(workshop: Workshop, train: int = 96) -> None:
    """Enough raw bytes that worker processes are worth it."""
    for split, count in (("train", train), ("val", 16)):
        for i in range(count):
            workshop.write(f"{split}/{'abcd'[i % 4]}/{i}.png", png(noise(170, 200, seed=i)))


def records() -> list[Path]:
    return list(Path(".work/prepare").glob("*/records/*.json"))


def heeding_prepare() -> subprocess.Popen[bytes]:
    """Start `prepare` as a shell does in the foreground."""
    # A shell that starts the tests in the background has them ignore Ctrl-C, and they what they start.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return stage("prepare", start_new_session=True, preexec_fn=heeding)


def test_a_worker_leaves_ctrl_c_to_its_parent_from_the_beginning(workshop: Workshop) -> None:
    """It imports for a second or more; Ctrl-C reaches all processes of the terminal."""
    large(workshop, train=480)
    write_params(workshop, workers=2)
    assert stage("fingerprint").wait() == 0
    process = heeding_prepare()

    def importing() -> list[psutil.Process]:
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        return [worker for worker in workers if worker.cpu_times().user > 0.2]

    wait_for(lambda: bool(importing()))
    for worker in importing():
        worker.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert b"Traceback" not in error
    assert process.returncode == 0


def test_ctrl_c_ends_with_130_and_loses_nothing(workshop: Workshop) -> None:
    large(workshop, train=480)  # still at work when the signal comes
    write_params(workshop, workers=2)
    assert stage("fingerprint").wait() == 0
    process = heeding_prepare()
    wait_for(lambda: len(records()) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.decode().rstrip().endswith("interrupted")
    assert b"Traceback" not in error
    kept = {path: path.stat().st_mtime_ns for path in records()}
    assert kept
    assert not Path("data/shards").exists()
    finished = workshop.prepare(load_params())  # the test's own process, one configuration, one work folder
    assert len(finished) == 2
    assert not records()


def test_a_killed_worker_gives_one_line_and_its_unit_is_done_again(workshop: Workshop) -> None:
    large(workshop)
    write_params(workshop, workers=2)
    assert stage("fingerprint").wait() == 0
    process = stage("prepare")
    wait_for(lambda: len(records()) >= 1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error.decode().splitlines()[-1].startswith("error: a worker process died")
    assert b"Traceback" not in error
    again = stage("prepare")
    assert again.wait() == 0


def test_two_at_once_on_one_output(workshop: Workshop) -> None:
    workshop.classes()
    workshop.prepare()
    want = workshop.snapshot()
    digest = read_fingerprint(fingerprint_file("own")).digest
    output_lock = Places.of("own", workshop.params(), digest).output_lock
    refused = pytest.raises(UserError, match=rf"process {os.getpid()} on .* is at work on the same .*stop it")
    with exclusive_lock(output_lock), refused:
        workshop.prepare()
    with exclusive_lock(output_lock), refused:
        workshop.prepare(samples_per_shard=1)  # another configuration, the same output
    assert workshop.snapshot() == want


def test_two_at_once_on_the_same_work_take_turns(workshop: Workshop) -> None:
    """As copies of the repository do, in which queued experiments run."""
    workshop.classes()
    want = workshop.fresh(samples_per_shard=8, sizes=[[32, 32], [16, 16]])
    write_params(workshop, workers=1)
    lock = Places.of("own", load_params(), read_fingerprint(fingerprint_file("own")).digest).lock
    with exclusive_lock(lock):
        second = stage("prepare")
        assert second.stdout is not None
        assert f"waiting for process {os.getpid()} on ".encode() in second.stdout.readline()
        assert second.poll() is None
    assert second.wait() == 0
    assert workshop.snapshot() == want
    assert not lock.exists()


def test_a_full_disk_keeps_what_is_finished(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.classes(images=8)
    want = workshop.fresh(samples_per_shard=2)
    shutil.rmtree("data/shards")
    write = ShardWriter.add
    calls = []

    def full(self: ShardWriter, key: int, content: Any) -> None:
        calls.append(key)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, key, content)

    monkeypatch.setattr(ShardWriter, "add", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        workshop.prepare(samples_per_shard=2)
    done = sum(json.loads(path.read_text())["parts"][0]["shard"]["samples"] for path in records())
    assert 0 < done <= 5
    assert not list(Path(".work").rglob("*.partial"))
    calls.clear()
    calls.extend(range(100))
    workshop.prepare(samples_per_shard=2)
    assert len(calls) == 100 + 32 - done  # the finished units were not done again
    assert workshop.snapshot() == want


def test_a_finished_shard_that_was_damaged_is_made_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.classes(images=8)
    workshop.prepare(samples_per_shard=2)
    want = workshop.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.prepare.preparation.keep", _fail)
        shutil.rmtree("data/shards")
        with pytest.raises(UserError, match="played"):
            workshop.prepare(samples_per_shard=2)
    shard = next(Path(".work/prepare").glob("*/shards/8x8/train-000003.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    next(Path(".work/prepare").glob("*/shards/8x8/train-000004.tar")).unlink()
    next(Path(".work/prepare").glob("*/records/val-000000.json")).write_text("{")
    shard.with_name("train-000009.tar.77.partial").write_bytes(b"litter")
    workshop.prepare(samples_per_shard=2)
    assert workshop.snapshot() == want


def _fail(*_: Any) -> None:
    raise UserError("played")


def test_raising_the_limit_of_corrupt_images_goes_on_where_it_was(workshop: Workshop) -> None:
    workshop.classes(images=8)
    workshop.write("val/cat/bad.png", b"x")
    with pytest.raises(UserError, match="1 corrupt"):
        workshop.prepare(samples_per_shard=2)
    kept = {path: path.stat().st_mtime_ns for path in Path(".work").rglob("train-*.json")}
    assert kept
    manifest = workshop.prepare(samples_per_shard=2, max_corrupt=1)[0]
    assert manifest.splits["val"].left_out[0].name == "val/cat/bad.png"


def test_moving_to_another_file_system_copies_first(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``data`` may be a link to a larger disk."""
    workshop.classes()
    workshop.prepare()
    want = workshop.snapshot()
    rename = Path.rename

    def elsewhere(self: Path, target: Any) -> Path:
        if self.name == "shards" and Path(target).name == "own":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", elsewhere)
    workshop.prepare()
    assert workshop.snapshot() == want


def test_units_are_handed_out_a_few_at_a_time() -> None:
    """However many units there are, only `AHEAD` per worker are in the pool: memory stays bounded."""
    taken = []

    class Counted(list[int]):
        def __iter__(self) -> Any:
            for unit in super().__iter__():
                taken.append(unit)
                yield unit

    results = executors.run_local(abs, Counted(range(50)), 2)
    next(results)
    assert len(taken) <= executors.AHEAD * 2
    assert sorted([0, *results])[-1] == 49


def strike(process: subprocess.Popen[bytes], moments: random.Random) -> int:
    """SIGKILL at a random moment, most often while images are converted, however slow the machine is."""
    if moments.random() < 0.8:
        assert process.stderr is not None
        process.stderr.read(1)  # the progress bar's first sign
    time.sleep(moments.uniform(0, 1.5))
    process.kill()
    return process.wait()


@pytest.mark.slow
def test_a_storm_of_kills_over_shards_in_place_changes_no_byte(workshop: Workshop) -> None:
    """Raw files come and go while it is killed; what is in place is always whole: the old shards or the new."""
    large(workshop)
    write_params(workshop, workers=1)
    assert stage("fingerprint").wait() == 0
    assert stage("prepare").wait() == 0
    allowed = [workshop.snapshot()]
    moments = random.Random(1)
    for kill in range(20):
        if kill % 4 == 0:
            workshop.write(f"train/a/new {kill}.png", png(noise(170, 200, seed=200 + kill)))
            (workshop.raw / f"train/b/{4 * kill + 1}.png").unlink()
            assert stage("fingerprint").wait() == 0
        write_params(workshop, workers=1 + kill % 3)
        process = stage("prepare")
        if strike(process, moments) == 0:
            allowed = [workshop.snapshot()]
        elif Path("data/shards/own").exists() and (now := workshop.snapshot()) not in allowed:
            allowed.append(now)  # killed after the new ones were put in place
            verify(workshop.shards((32, 32)))
            verify(workshop.shards((16, 16)))
    assert stage("prepare").wait() == 0
    mine = workshop.snapshot()
    assert workshop.fresh(load_params()) == mine


@pytest.mark.slow
def test_a_storm_of_kills_changes_no_byte(workshop: Workshop) -> None:
    """SIGKILL at 20 random moments, with another number of workers each time."""
    large(workshop)
    write_params(workshop, workers=1)
    assert stage("fingerprint").wait() == 0
    assert stage("prepare").wait() == 0
    want = workshop.snapshot()
    assert len(want) > 2 * (12 + 2 + 1)
    shutil.rmtree("data/shards")
    moments = random.Random(0)
    kills = 0
    while kills < 20:
        write_params(workshop, workers=1 + kills % 3)
        process = stage("prepare")
        ended = strike(process, moments)
        if ended == 0:  # it was quicker than the kill: begin anew
            assert workshop.snapshot() == want
            shutil.rmtree("data/shards")
            continue
        kills += 1
        assert not Path("data/shards/own").exists() or workshop.snapshot() == want
    assert stage("prepare").wait() == 0
    assert workshop.snapshot() == want
    left = {name for name in Storage(".work").names() if not name.endswith(".lock")}
    assert left == {"fingerprint/own.json", "prepare/own.json"}
