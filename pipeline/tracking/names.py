"""What runs, params and tags are called in MLflow."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.paths import repository_root
from pipeline.core.redact import without_credentials
from pipeline.params import Params

STORES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "uc")
"""Schemes of stores that MLflow keeps runs in; it no longer takes plain folders."""
METRIC_CHARACTERS = 250
"""Of a metric's name: MLflow's limit."""


def tracking_uri(params: Params) -> str:
    """Return MLFLOW_TRACKING_URI, else ``machine.tracking_uri``, else that of a SQLite file in the repository.

    Raises:
        UserError: MLflow keeps no runs in a store of that kind.
    """
    default = f"sqlite:///{repository_root() / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.machine.tracking_uri or default
    scheme = re.split(r"[:+]", uri, maxsplit=1)[0]
    if scheme not in STORES:
        where = "MLFLOW_TRACKING_URI" if os.environ.get("MLFLOW_TRACKING_URI") else "machine.tracking_uri"
        raise UserError(
            f"{where}: got {without_credentials(uri)}, allowed are addresses that begin with {', '.join(STORES)}; "
            "MLflow keeps no runs in plain folders: leave it empty for a SQLite file in the repository"
        )
    return uri


def ui_command(uri: str) -> str:
    """Return what shows the runs of the store at ``uri``: a command, or the address of a server."""
    if uri.startswith("http"):
        return f"open {without_credentials(uri)} in a browser"
    return f"uv run mlflow ui --backend-store-uri {without_credentials(uri)}"


def is_run_id(text: str | None) -> bool:
    """Return True for an id as MLflow makes them, 32 hexadecimal digits; only such a one may name a folder."""
    return text is not None and re.fullmatch("[0-9a-f]{32}", text) is not None


def metric_name(prefix: str, name: str) -> str:
    """Return the metric of something called ``name``, a class for example: ``prefix/name`` where MLflow takes that.

    Characters that it refuses become ``_`` and what is too long is cut. A digest of the name then tells it from
    others that look the same.
    """
    room = METRIC_CHARACTERS - len(prefix) - 1
    clean = re.sub(r"[^\w. -]", "_", name)
    if clean == name and 0 < len(name) <= room and name.strip(" .") == name:
        return f"{prefix}/{name}"
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{prefix}/{clean[: room - len(digest) - 1]}-{digest}"


def run_name(params: Params) -> str:
    """Return what tells this run from its neighbours in a list: ``WaveMix-Lite 32/7 bilinear, bs128, seed 0``."""
    experiment = os.environ.get("DVC_EXP_NAME")
    variants = [
        f"bs{params.train.batch_size}",
        f"seed {params.train.seed}",
        *([f"fold {params.train.fold}"] if isinstance(params.train.fold, int) else []),
        *([experiment] if experiment else []),
    ]
    return ", ".join([params.model.description, *variants])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as MLflow params: ``{"model": {"dim": 32}}`` gives ``{"model.dim": "32"}``."""
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


def child_of(run_id: str | None) -> dict[str, str]:
    """Return the tag that shows a run below the run ``run_id``; none where that has no id yet."""
    return {"mlflow.parentRunId": run_id} if run_id else {}


def source_tags() -> dict[str, str]:
    """Return where the code comes from: git commit, a flag for changed files, DVC stage and experiment.

    Files that DVC itself changes to run an experiment (its params, which the run has, and what stages wrote) do not
    count. Outside of git the commit is ``unknown``.
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
