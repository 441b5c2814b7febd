"""All that the report is made of."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoints.trained import DESCRIPTION, Trained
from pipeline.core.errors import UserError
from pipeline.data.shards.folds import of_fold
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import Manifest, read_manifest
from pipeline.params import Params
from pipeline.tracking import names
from pipeline.tracking.store import Run, list_runs


@dataclass(frozen=True)
class Experiment:
    """All that the page is made of; ``runs`` is None when the store is not responding."""

    params: Params
    trained: Trained
    manifest: Manifest
    metrics: Mapping[str, Any]
    cost: Mapping[str, Any]
    """What `pipeline.benchmark.bench` wrote."""
    curves: Sequence[Mapping[str, float]]
    runs: Sequence[Run] | None

    @property
    def metric(self) -> str:
        """``top1`` or ``miou``."""
        return self.trained.metric.removeprefix("val/")

    @property
    def split(self) -> str:
        """The split that the headline is of."""
        return "test" if "test" in self.metrics else "val"

    @property
    def run(self) -> Run | None:
        """The run of this experiment, where the store has it."""
        return next((run for run in self.runs or () if run.id == self.trained.run_id), None)


def read_experiment(params: Params, checkpoint: Path, reports: Path) -> Experiment:
    """Gather what the stages before left.

    Raises:
        UserError: one of them was not run.
    """
    try:
        trained = Trained.model_validate_json((checkpoint / DESCRIPTION).read_bytes())
        metrics = json.loads((reports / "metrics.json").read_bytes())
        cost = json.loads((reports / "benchmark.json").read_bytes())
        with (reports / "curves.csv").open(newline="", encoding="utf-8") as file:
            curves = [
                {key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)
            ]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: missing; run `uv run dvc repro`") from None
    uri = names.tracking_uri(params)
    runs: list[Run] | None = None
    try:
        runs = list_runs(uri)
    except UserError as error:
        print(f"warning: {error}; the report goes without the other runs")
    manifest = of_fold(read_manifest(shards_folder(params.data, params.size)), trained.fold)
    return Experiment(params, trained, manifest, metrics, cost, curves, runs)
