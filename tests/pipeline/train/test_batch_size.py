"""``train.batch_size: auto``: the largest that fits, found once, the same for all processes and ever after."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from pipeline.checkpoints.trained import Trained
from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.params import Params
from pipeline.profiling.probe import Probe, largest
from pipeline.train.batch_size import resolve_batch_size
from pipeline.train.experiment import train
from pipeline.train.processes import Processes
from tests.pipeline.train.launched import launch
from tests.pipeline.train.test_processes import in_each_process, rows

KEPT = Path(".work/batch_size")


def settle(params: Params) -> int:
    manifest = read_manifest(shards_folder(params.data, params.size))
    return resolve_batch_size(
        params, manifest, KEPT, Processes(torch.device("cpu"))
    ).train.resolved_batch_size


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how many images fit, counted by hand: what is free, a quarter of it, over the bytes an image keeps."""

    def fits(images: float) -> None:
        monkeypatch.setattr(Probe, "kept_bytes", lambda _: 1000.0)
        free = SimpleNamespace(available=4 * 1000 * images)
        monkeypatch.setattr("pipeline.train.batch_size.psutil", SimpleNamespace(virtual_memory=lambda: free))

    return fits


@pytest.mark.parametrize(("images", "expected"), [(2, 2), (9.9, 8), (16, 16), (1e9, 32)])
def test_a_cpu_takes_the_largest_power_of_two_for_which_it_has_memory(
    toy: Callable[..., Params], memory: Callable[[float], None], images: float, expected: int
) -> None:
    memory(images)
    assert settle(toy(batch_size="auto")) == expected  # of 50 samples


def test_a_cpu_takes_no_more_than_keeps_it_busy(
    toy: Callable[..., Params], memory: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(1e9)
    monkeypatch.setattr("pipeline.train.batch_size.MAX_ON_HOST", 16)
    assert settle(toy(batch_size="auto")) == 16


def test_parts_of_a_batch_take_memory_one_after_another(
    toy: Callable[..., Params], memory: Callable[[float], None]
) -> None:
    memory(5)
    assert settle(toy(batch_size="auto", accumulate=3)) == 3 * 4


def test_what_an_image_keeps_grows_with_the_network(toy: Callable[..., Params]) -> None:
    def kept(params: Params, depth: int) -> float:
        model = params.model.model_copy(update={"depth": depth})
        manifest = read_manifest(shards_folder(params.data, params.size))
        return Probe(
            params.model_copy(update={"model": model}), manifest, torch.device("cpu"), "no"
        ).kept_bytes()

    one, two, three = (kept(toy(batch_size="auto"), depth) for depth in (1, 2, 3))
    assert 0 < one < two
    assert three - two == pytest.approx(two - one)


def test_the_size_found_stays_whatever_memory_there_is_later(
    toy: Callable[..., Params], memory: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    params = toy(batch_size="auto")
    memory(8)
    assert settle(params) == 8
    memory(2)
    assert settle(params) == 8
    assert capsys.readouterr().out.splitlines() == [
        "train.batch_size: auto is 8",
        "train.batch_size: auto is 8, as before",
    ]


def test_no_memory_for_two_images_is_refused_before_anything_is_written(
    toy: Callable[..., Params], memory: Callable[[float], None]
) -> None:
    memory(1)
    with pytest.raises(UserError, match=r"got auto, and no batch fits the memory .*train\.memory: lean"):
        train(toy(batch_size="auto"), Path("checkpoints/best"), Path("reports/curves.csv"))
    assert not Path(".work").exists()


def test_it_halves_until_there_is_memory() -> None:
    tried: list[int] = []

    def work(batch: int) -> None:
        tried.append(batch)
        if batch > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert largest(work, 64) == 16
    assert tried == [64, 32, 16]
    assert largest(lambda _: work(21), 4) == 0
    with pytest.raises(RuntimeError, match="another"):
        largest(lambda _: exec('raise RuntimeError("another")'), 4)


def test_a_training_uses_logs_and_keeps_the_size(
    toy: Callable[..., Params], memory: Callable[[float], None]
) -> None:
    params = toy(batch_size="auto", repeats=2, phases=[{"optimizer": "adamw", "samples": 100}])
    before = configuration_hash(params.train)
    memory(25)
    trained = train(params, Path("checkpoints/best"), Path("reports/curves.csv"))
    assert configuration_hash(params.train) == before
    assert rows()[-1]["step"] == 7  # 100 samples in batches of 16
    store = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    assert trained.run_id is not None
    assert trained.batch_size == 16
    described = json.loads(Path("checkpoints/best/training.json").read_text())
    assert described.pop("batch_size") == 16
    assert Trained.model_validate(described).batch_size is None  # as in files of before
    run = store.get_run(trained.run_id)
    assert run.data.params["train.batch_size"] == "16"
    assert ", bs16, seed " in run.info.run_name


def test_two_processes_take_the_smaller_of_what_fits(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second process has memory for 5 images, the first for 11."""
    params = toy(batch_size="auto", phases=[{"optimizer": "adamw", "epochs": 1}])
    in_each_process(SMALLER_ON_THE_SECOND, tmp_path, monkeypatch)
    process = launch(params)
    output: Any = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert output.count("train.batch_size: auto is 8") == 1
    assert rows()[-1]["step"] == 7  # 50 samples in batches of 8


SMALLER_ON_THE_SECOND = """
import types
from pipeline.profiling.probe import Probe
from pipeline.train import batch_size

free = 4 * 2 * (11 if os.environ["RANK"] == "0" else 5)
Probe.kept_bytes = lambda self: 1.0
batch_size.psutil = types.SimpleNamespace(virtual_memory=lambda: types.SimpleNamespace(available=free))
"""
