"""Save a view of an experiment for the MLflow UI: the columns and charts that tell its runs apart.

Without one the table has a name and a date of each run, and the columns are to be picked one by one. The UI keeps
its "Views" as tags of the experiment; a UI that does not know this form leaves the view out of its menu.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

NAME = "results"


TAG = f"mlflow.sharedViewState.{NAME}"


SECTIONS = ("val", "train", "test", "best_val", "cost")
"""Sections of charts, by the first word of their metrics, in the order shown; the others follow."""


PARAMS = ("model.dim", "model.depth", "model.expansion", "train.batch_size", "train.seed")


def save_view(client: Any, run_id: str, metrics: Sequence[str]) -> None:
    """Give the experiment of ``run_id`` the view, ordered by the first of ``metrics``, unless it has one already.

    Args:
        client: an MLflow client.
    """
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    if TAG not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, TAG, view(metrics))


def view(metrics: Sequence[str]) -> str:
    """Return the value of the tag, a JSON text."""
    shown = [("metrics", name) for name in metrics] + [("params", name) for name in PARAMS]
    columns = ["attributes.`Created`", *(f"{kind}.`{name}`" for kind, name in shown)]
    state = {
        "selectedColumns": columns,
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "compareRunCharts": [],  # the UI fills them in, one for each metric
        "compareRunSections": [
            {"uuid": f"section-{name}", "name": name, "display": True, "isReordered": False}
            for name in SECTIONS
        ],
        "isAccordionReordered": True,
    }
    now = round(1000 * time.time())
    return json.dumps({"name": NAME, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})
