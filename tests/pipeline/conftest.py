"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from pipeline.params import Params
from tests.pipeline.experiment import make_experiment
from tests.pipeline.toy import toy_params, write_shards
from tests.pipeline.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty repository, the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and no runs; making one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def toy(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Params]:
    """An empty repository with the shards of a toy dataset in it; gives params to train on them."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")

    def make(task: str = "classification", **train: Any) -> Params:
        folder = tmp_path / "data/shards/toy/8x12"
        if not folder.exists():
            write_shards(folder, task)
        Path("params.yaml").touch()
        settings = {"batch_size": 16, "phases": [{"optimizer": "adamw", "epochs": 2}], "amp": "off", **train}
        return toy_params(train=settings)

    return make


@pytest.fixture
def experiment(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Params]:
    """``experiment(task, run=..., splits=...)`` makes one in a fresh working folder and returns its params."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda task, **options: make_experiment(tmp_path, task, **{"run": False, **options})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on many threads, and the cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def same_import_path() -> Iterator[None]:
    """MLflow puts the code of a model that it loads first on the path, where a later process would find it."""
    before = sys.path.copy()
    yield
    sys.path[:] = before
