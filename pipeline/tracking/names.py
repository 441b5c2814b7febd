"""What runs, params and tags are called in MLflow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from pipeline.core.paths import repository_root
from pipeline.params import Params


def tracking_uri(params: Params) -> str:
    """MLFLOW_TRACKING_URI, else ``machine.tracking_uri``, else a SQLite file in the repository (absolute)."""
    default = f"sqlite:///{repository_root() / 'mlflow.db'}"
    return os.environ.get("MLFLOW_TRACKING_URI") or params.machine.tracking_uri or default


def run_name(params: Params) -> str:
    """Return what tells this run from its neighbours in a list: ``WaveMix-Lite 32/7 bilinear, bs128, seed 0``."""
    experiment = os.environ.get("DVC_EXP_NAME")
    variants = [
        f"bs{params.train.batch_size}",
        f"seed {params.train.seed}",
        *([experiment] if experiment else []),
    ]
    return ", ".join([params.model.description, *variants])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as MLflow params: ``{"model": {"dim": 32}}`` gives ``{"model.dim": "32"}``."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(entry, Mapping) for entry in value):
            flat |= flatten({str(number): entry for number, entry in enumerate(value)}, f"{name}.")
        else:
            flat[name] = str(value)
    return flat


def source_tags() -> dict[str, str]:
    """Where the code comes from: git commit, whether tracked files were changed, DVC stage and experiment.

    What DVC itself changes to run an experiment (its params, which the run has, and what stages wrote) is no change.
    """
    tags = {}
    for tag, variable in (("dvc.stage", "DVC_STAGE"), ("dvc.experiment", "DVC_EXP_NAME")):
        if value := os.environ.get(variable):
            tags[tag] = value
    tags |= {
        "mlflow.source.name": f"stages/{tags.get('dvc.stage', 'train')}.py",
        "mlflow.source.type": "LOCAL",
    }
    try:
        commit = ["git", "rev-parse", "HEAD"]
        written = [f":(top,exclude){name}" for name in ("dvc.lock", "params.yaml", "reports")]
        changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":(top)", *written]
        tags["git.commit"] = subprocess.check_output(commit, text=True, stderr=subprocess.DEVNULL).strip()
        tags["mlflow.source.git.commit"] = tags["git.commit"]
        dirty = subprocess.check_output(changes, text=True, stderr=subprocess.DEVNULL).strip()
        tags["git.dirty"] = str(bool(dirty)).lower()
    except (OSError, subprocess.CalledProcessError):
        tags["git.commit"] = "unknown"
    return tags
