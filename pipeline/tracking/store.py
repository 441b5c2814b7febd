"""Runs read from the MLflow store, plainly typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.core.errors import UserError, one_line
from pipeline.core.redact import without_credentials
from pipeline.tracking.client import DATA_TAG, connect

MOST_RUNS = 1000
"""Runs read from the store, the newest first."""


@dataclass(frozen=True)
class Run:
    """One run, as the store has it."""

    id: str
    name: str
    data: str
    """The data set."""
    status: str
    started: datetime
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    def held_out(self, metric: str) -> float | None:
        """Return ``metric`` of the kept network on the test split, or on val where there is no test split."""
        return self.metrics.get(f"test/{metric}", self.metrics.get(f"best_val/{metric}"))


def list_runs(uri: str) -> list[Run]:
    """Return the runs of the store at ``uri`` that were not deleted, at most `MOST_RUNS`, newest first.

    Raises:
        UserError: the store is not responding.
    """
    try:
        client = connect(uri)
        experiments = {
            entry.experiment_id: entry.tags.get(DATA_TAG, entry.name) for entry in client.search_experiments()
        }
        found = client.search_runs(
            list(experiments), max_results=MOST_RUNS, order_by=["attributes.start_time DESC"]
        )
    except Exception as error:
        raise UserError(
            f"MLflow at {without_credentials(uri)} is not responding ({one_line(error)})"
        ) from None
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
