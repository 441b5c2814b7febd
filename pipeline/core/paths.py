"""Where things lie. Everything that outlives an experiment lies in the real repository."""

from __future__ import annotations

from pathlib import Path

EXPERIMENTS = (".dvc", "tmp", "exps")


def repository_root(start: Path | None = None) -> Path:
    """The repository that holds ``start`` (default: the working folder).

    ``dvc exp run --queue`` runs in a copy under ``.dvc/tmp/exps/<name>``; runs, raw data and unfinished work
    belong to the repository that the copy was made from, so the part from ``.dvc/tmp/exps`` on is dropped.
    """
    here = (start or Path.cwd()).resolve()
    parts = here.parts
    for i in range(len(parts) - len(EXPERIMENTS) + 1):
        if parts[i : i + len(EXPERIMENTS)] == EXPERIMENTS:
            return Path(*parts[:i])
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").exists():
            return folder
    return here


def work_folder(stage: str, configuration_hash: str) -> Path:
    """Half-finished work of ``stage``: undeclared to DVC, ignored by git, one folder per configuration."""
    return repository_root() / ".work" / stage / configuration_hash
