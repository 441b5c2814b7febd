"""A training that has ended, kept until DVC has recorded it.

DVC clears a stage's outputs before it runs the stage. Killed, or out of room, after the training and before its
outputs were recorded, it would train again. `evaluate` comes once they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.checkpoints.trained import DESCRIPTION
from pipeline.core.hashing import configuration_hash
from pipeline.core.paths import work_folder
from pipeline.core.process import is_first_process

CURVES = "curves.csv"


STAGE = "trained"


def folder(training: str, code: str) -> Path:
    """Return the folder that keeps ``training``, done by the code of digest ``code``: the network's files, `CURVES`."""
    return work_folder(STAGE, configuration_hash(training, code))


def copy_outputs(kept: Path, out: Path, curves: Path) -> None:
    """Copy the network in ``kept`` to the folder ``out``, and its row per epoch to the file ``curves``."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(kept, out, ignore=shutil.ignore_patterns(CURVES))
    curves.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept / CURVES, curves)


def forget(checkpoint: Path) -> None:
    """Delete what is kept of the training that gave ``checkpoint``."""
    if not is_first_process():
        return
    own = (checkpoint / DESCRIPTION).read_bytes()
    for path in work_folder(STAGE, "").glob(f"*/{DESCRIPTION}"):
        if path.read_bytes() == own:
            shutil.rmtree(path.parent)
