"""The places of things. Everything that outlives an experiment lies in the real repository."""

from __future__ import annotations

from pathlib import Path

EXPERIMENTS = (".dvc", "tmp", "exps")


def repository_root(start: Path | None = None) -> Path:
    """Return the repository that holds ``start`` (default: the working folder).

    ``dvc exp run --queue`` runs in a copy under ``.dvc/tmp/exps/<name>``; runs, raw data and unfinished work
    belong to the repository that the copy was made from, so the part from ``.dvc/tmp/exps`` on is dropped.
    """
    here = (start or Path.cwd()).resolve()
    parts = here.parts
    for i in range(len(parts) - len(EXPERIMENTS) + 1):
        if parts[i : i + len(EXPERIMENTS)] == EXPERIMENTS:
            return Path(*parts[:i])
    return project_folder(here)


def project_folder(start: Path | None = None) -> Path:
    """Return the nearest folder with a ``dvc.yaml`` at or above ``start`` (default: the working folder).

    In an experiment that DVC runs this is its copy of the repository. Without any it is ``start`` itself.
    """
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").exists()), here)


def work_folder(stage: str, configuration_hash: str) -> Path:
    """Return the folder of unfinished work of ``stage``, one per configuration: undeclared to DVC, ignored by git."""
    return repository_root() / ".work" / stage / configuration_hash
