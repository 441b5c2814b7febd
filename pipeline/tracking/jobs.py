"""What is written to an MLflow run besides points: each is a job that may be repeated until the store has taken it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.redact import without_credentials
from pipeline.tracking.client import send_apart
from pipeline.tracking.ui_view import save_view

Job = Callable[[Any, str], Mapping[str, str]]
"""Writes something through an MLflow client to the run of an id; returns what the store refused of it, with reasons."""
PARAMS = 100
"""Params in one request: MLflow's limit."""
PARAM_CHARACTERS = 6000
"""Of a param's value: MLflow's limit."""


def redacted(values: Mapping[str, str]) -> dict[str, str]:
    """Return ``values`` without the credentials of URLs in them."""
    return {key: without_credentials(value) for key, value in values.items()}


def log_params(params: Mapping[str, str]) -> Job:
    """Return a job that logs the params that the run has not yet."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        from mlflow.entities import Param

        known = client.get_run(run_id).data.params
        values = [
            (key, value[:PARAM_CHARACTERS]) for key, value in redacted(params).items() if key not in known
        ]
        refused: dict[str, str] = {}
        for start in range(0, len(values), PARAMS):
            groups = {f"param {key}": [Param(key, value)] for key, value in values[start : start + PARAMS]}
            refused |= send_apart(
                client, run_id, groups, lambda batch: client.log_batch(run_id, params=batch)
            )
        return refused

    return send


def set_tags(tags: Mapping[str, str]) -> Job:
    """Return a job that sets tags, over those that the run has."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        from mlflow.entities import RunTag

        groups = {f"tag {key}": [RunTag(key, value)] for key, value in redacted(tags).items()}
        return send_apart(client, run_id, groups, lambda batch: client.log_batch(run_id, tags=batch))

    return send


def log_text(text: str, name: str) -> Job:
    """Return a job that uploads ``text`` as the artifact ``name``."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        client.log_text(run_id, without_credentials(text), name)
        return {}

    return send


def log_artifact(path: Path, folder: str | None) -> Job:
    """Return a job that uploads a file, or the files of a folder."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), folder or path.name)
        else:
            client.log_artifact(run_id, str(path), folder)
        return {}

    return send


def log_dataset(name: str, digest: str, source: str, context: str) -> Job:
    """Return a job that logs which data the run used, and for what (``context``)."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        where = json.dumps({"uri": without_credentials(source)})
        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=where)
        tags = [InputTag("mlflow.data.context", context)]
        client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])
        return {}

    return send


def describe(note: Callable[[str, str], str], metrics: Sequence[str]) -> Job:
    """Return a job that gives the run its description, and its experiment the view that compares runs."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        number = client.get_run(run_id).info.experiment_id
        text = note(f"#/experiments/{number}/runs", run_id)
        client.set_tag(run_id, "mlflow.note.content", without_credentials(text))
        save_view(client, run_id, metrics)
        return {}

    return send


def set_status(status: str) -> Job:
    """Return a job that closes the run."""

    def send(client: Any, run_id: str) -> dict[str, str]:
        client.set_terminated(run_id, status)
        return {}

    return send
