"""The runs in the MLflow store, read once and plainly typed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.core.errors import UserError, one_line

MOST_RUNS = 1000
"""Runs read of the store, the newest first."""


@dataclass(frozen=True)
class Run:
    """One run, as the store has it."""

    id: str
    name: str
    data: str
    """The experiment it is in: the name of the data set."""
    status: str
    started: datetime
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    def held_out(self, metric: str) -> float | None:
        """``metric`` of the kept network on the test split, or on val where there is no test split."""
        return self.metrics.get(f"test/{metric}", self.metrics.get(f"best_val/{metric}"))


def client(uri: str) -> Any:
    """An MLflow client for ``uri`` that gives up in seconds when nobody answers."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def list_runs(uri: str) -> list[Run]:
    """All runs of the store at ``uri`` that were not deleted, the newest first.

    Raises:
        UserError: the store does not answer.
    """
    try:
        store = client(uri)
        experiments = {entry.experiment_id: entry.name for entry in store.search_experiments()}
        found = store.search_runs(
            list(experiments), max_results=MOST_RUNS, order_by=["attributes.start_time DESC"]
        )
    except Exception as error:
        raise UserError(f"MLflow at {uri} does not answer ({one_line(error)})") from None
    return [_read(run, experiments[run.info.experiment_id]) for run in found]


def _read(run: Any, experiment: str) -> Run:
    return Run(
        id=run.info.run_id,
        name=run.info.run_name,
        data=experiment,
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC),
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
    )
