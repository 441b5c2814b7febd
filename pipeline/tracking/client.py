"""MLflow's client: connected, its runs opened, its refusals told from its silence."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from pipeline.core.errors import one_line
from pipeline.core.hashing import configuration_hash
from pipeline.core.locks import exclusive_lock
from pipeline.core.paths import repository_root, work_folder
from pipeline.tracking.new_store import make_tables
from pipeline.tracking.relocation import follow_repository

Item = TypeVar("Item")
ARTIFACTS = "mlartifacts"
"""Folder of the repository that holds the artifacts of a SQLite store."""
DATA_TAG = "wavemix.data"
"""Tag of an experiment: the data set of its runs, whatever number its name ends in."""
TRANSIENT = (401, 403, 408, 429)
"""HTTP status codes below 500 that another try may not get: credentials, time and rate limits."""


class RunGoneError(Exception):
    """A run that was deleted, or that the store never had."""


def connect(uri: str) -> Any:
    """Return a client of the store at ``uri`` that gives up in seconds when nobody answers.

    The tables of a new SQLite file are made, and its artifacts are looked for where the repository lies now.
    """
    # MLflow's default is seven retries over four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # Whoever uses the client says once, in a line, that a store fails; these would say it at each try, in many.
    for name in ("mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    mlflow.set_tracking_uri(uri)
    # Two processes that make the tables of a new store at once get in each other's way.
    lock = work_folder("mlflow", f"{configuration_hash(uri)}.lock")
    with exclusive_lock(lock, wait=True) if uri.startswith("sqlite:") else nullcontext():
        make_tables(uri)
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
        follow_repository(uri, ARTIFACTS)
    return client


def is_refusal(error: Exception) -> bool:
    """Return True for what the store would refuse again; a store that is not responding is asked again."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()
        return status < 500 and status not in TRANSIENT
    return isinstance(error, (FileNotFoundError, RunGoneError))


def send_apart(
    client: Any, run_id: str, groups: Mapping[str, Sequence[Item]], send: Callable[[Sequence[Item]], None]
) -> dict[str, str]:
    """Send all ``groups`` of items of a run together or, where the store refuses that, each group by itself.

    Returns:
        The groups that the store refuses, by name, each with its reason.

    Raises:
        RunGoneError: the run was deleted, or the store never had it.
        Exception: whatever ``send`` raises that is no refusal.
    """
    try:
        send([item for group in groups.values() for item in group])
        return {}
    except Exception as error:
        if not is_refusal(error):
            raise
        if not is_active(client, run_id):
            raise RunGoneError(f"run {run_id} was deleted") from error
    refused: dict[str, str] = {}
    for name, group in groups.items():
        try:
            send(group)
        except Exception as error:
            if not is_refusal(error):
                raise
            refused[name] = one_line(error)
    return refused


def is_active(client: Any, run_id: str) -> bool:
    """Return False for a run that was deleted, or that the store never had."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except Exception as error:
        if not is_refusal(error):
            raise
        return False


def create_run(client: Any, experiment: str, arguments: Mapping[str, Any]) -> str:
    """Create a run in ``experiment``, which is created where there is none, and return the run's id.

    Args:
        arguments: of `MlflowClient.create_run`.
    """
    run_id: str = client.create_run(_open_experiment(client, experiment), **arguments).info.run_id
    return run_id


def _open_experiment(client: Any, name: str) -> str:
    """Return the id of the experiment ``name``; while that is a deleted one, of ``name (2)`` and so on."""
    from mlflow.exceptions import MlflowException

    for count in itertools.count(1):
        numbered = name if count == 1 else f"{name} ({count})"
        try:
            known = client.get_experiment_by_name(numbered)
            number: str = known.experiment_id if known else _create_experiment(client, numbered, name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            known = client.get_experiment_by_name(numbered)  # another process was faster
            number = known.experiment_id
        if known is None or known.lifecycle_stage == "active":
            if count > 1:
                print(
                    f"warning: MLflow's experiment {name!r} was deleted; the run goes to {numbered!r} "
                    "(`mlflow experiments restore` brings the deleted one back)"
                )
            return number
    raise AssertionError


def _create_experiment(client: Any, name: str, data: str) -> str:
    # Beside a local store the artifacts lie in the repository, wherever the stage runs.
    local = str(repository_root() / ARTIFACTS) if client.tracking_uri.startswith("sqlite:") else None
    # Without the first tag the UI opens the experiment as one of generative AI.
    tags = {"mlflow.experimentKind": "custom_model_development", DATA_TAG: data}
    number: str = client.create_experiment(name, local, tags=tags)
    return number
