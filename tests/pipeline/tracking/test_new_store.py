"""A new store has the tables that MLflow itself would make, at once; what is there is left alone."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipeline.tracking.new_store import make_tables


def tables(file: Path) -> list[Any]:
    """Everything that decides what a store is: tables, indices, and the version of the migrations.

    The migrations write constraints and their values in an order that changes: the words of a table are sorted.
    """
    with closing(sqlite3.connect(file)) as database:
        made = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        version = database.execute("SELECT * FROM alembic_version").fetchall()
    return [*sorted((*row, sorted(re.findall(r"\w+", sql or ""))) for *row, sql in made), version]


def test_the_tables_are_those_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    make_tables(f"sqlite:///{ours}")
    mlflow.MlflowClient(f"sqlite:///{theirs}").search_experiments(max_results=1)
    assert tables(ours) == tables(theirs)
    (experiment,) = mlflow.MlflowClient(f"sqlite:///{ours}").search_experiments()  # which it takes as its own
    assert experiment.name == "Default"


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:1",
        "sqlite:///{there}",
        "sqlite:///{folder}/none/mlflow.db",
        "sqlite:///{folder}/a?b=1",
    ],
)
def test_all_else_is_left_to_mlflow(tmp_path: Path, uri: str) -> None:
    there = tmp_path / "there.db"
    there.write_bytes(b"of another program")
    make_tables(uri.format(there=there, folder=tmp_path))
    assert there.read_bytes() == b"of another program"
    assert list(tmp_path.iterdir()) == [there]


def test_a_version_of_mlflow_without_the_function_makes_them_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("mlflow.store.db.utils._initialize_tables")
    make_tables(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_left_for_mlflow_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    make_tables(f"sqlite:///{tmp_path / 'mlflow.db'}")
