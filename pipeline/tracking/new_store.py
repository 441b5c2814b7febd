"""The tables of a new MLflow store, made in memory first."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress

from pipeline.tracking.relocation import sqlite_file


def make_tables(uri: str) -> None:
    """Make MLflow's tables in the SQLite file of ``uri``, where there is no such file yet.

    MLflow itself would run its migrations in the file, and wait for the disk after each of them: for some four seconds
    in all. The file gets all tables at once, or none, which MLflow then makes: so it says what it cannot write.
    """
    file = sqlite_file(uri)
    if file is None or "?" in uri or file.exists() or not file.parent.is_dir():
        return
    try:
        from mlflow.store.db.utils import _initialize_tables
    except ImportError:  # not part of MLflow's interface: another version may have none
        return
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", poolclass=StaticPool)
    _initialize_tables(engine)
    made = engine.raw_connection().driver_connection
    assert isinstance(made, sqlite3.Connection)
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as stored:
        made.backup(stored)
    engine.dispose()
