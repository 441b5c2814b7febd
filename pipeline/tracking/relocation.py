"""A repository that was moved or copied: its MLflow file still names artifacts by the folder they lay in before.

MLflow stores absolute paths only. They are corrected in the file, so that what was logged is found and nothing is
ever written to the old place.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.core.paths import repository_root

PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables of MLflow's database and their columns that hold paths of artifacts."""


def follow_repository(uri: str, artifacts: str) -> None:
    """Correct the artifact paths in the store at ``uri``, if it is a SQLite file that lies in this repository.

    An experiment whose runs have artifacts at the old place and none here belongs to another repository that shares
    the file, and stays as it is.

    Args:
        artifacts: the folder of a repository that holds its artifacts.
    """
    here = repository_root() / artifacts
    file = sqlite_file(uri)
    if file is None or not file.is_relative_to(here.parent) or not file.is_file():
        return
    with closing(sqlite3.connect(file, timeout=30)) as database:
        for place, number in _foreign_places(database, here):
            if not _belongs_elsewhere(database, number, Path(place), here):
                _replace(database, place, str(here), number)
                print(
                    f"MLflow: artifacts of experiment {number} are now looked for in {here}, no longer in {place}"
                )
        database.commit()


def sqlite_file(uri: str) -> Path | None:
    """Return the file of the store at ``uri``, absolute; None where it is no SQLite file."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def _foreign_places(database: sqlite3.Connection, here: Path) -> list[tuple[str, int]]:
    """Return the artifact folders of a repository, other than ``here``, with the id of the experiment of each."""
    rows = database.execute("SELECT artifact_location, experiment_id FROM experiments").fetchall()
    return [
        (place, number)
        for place, number in rows
        if place and Path(place).is_absolute() and Path(place).name == here.name and place != str(here)
    ]


def _belongs_elsewhere(database: sqlite3.Connection, number: int, place: Path, here: Path) -> bool:
    rows = database.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (number,))
    runs = [run for (run,) in rows]
    return any((place / run).exists() for run in runs) and not any((here / run).exists() for run in runs)


def _replace(database: sqlite3.Connection, old: str, new: str, number: int) -> None:
    """Replace the beginning ``old`` of all paths of the experiment ``number``."""
    of_experiment = {
        "model_versions": "run_id IN (SELECT run_uuid FROM runs WHERE experiment_id = :number)",
    }
    for table, column in PATHS:
        where = of_experiment.get(table, "experiment_id = :number")
        database.execute(
            f"UPDATE {table} SET {column} = :new || substr({column}, :length + 1) "
            f"WHERE {where} AND ({column} = :old OR substr({column}, 1, :length + 1) = :old || '/')",
            {"new": new, "old": old, "length": len(old), "number": number},
        )
