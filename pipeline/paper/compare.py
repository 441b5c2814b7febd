"""Our runs beside the rows of the paper."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.paper.rivals import Row
from pipeline.paper.rows import figure, model_params
from pipeline.tracking.store import Run


@dataclass(frozen=True)
class Comparison:
    """A row of the paper and the best run of ours that has the same network and data."""

    row: Row
    run: Run
    ours: float
    """In percent."""
    differs: list[str]

    @property
    def difference(self) -> float:
        """Ours less the paper's, in percentage points."""
        return self.ours - figure(self.row)[1]


def compare(rows: Iterable[Row], runs: Iterable[Run]) -> list[Comparison]:
    """Return every row that a finished run has the network and data of, with the best such run."""
    best: dict[str, Comparison] = {}
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        by_data.setdefault(run.data, []).append(run)
    for row in rows:
        metric, _ = figure(row)
        wanted = {f"model.{key}": str(value) for key, value in model_params(row).items()}
        for run in by_data.get(row.dataset, []):
            value = run.held_out(metric)
            if value is None or any(run.params.get(key) != text for key, text in wanted.items()):
                continue
            ours = Comparison(row, run, 100 * value, setting_differences(row, run))
            if row.name not in best or best[row.name].ours < ours.ours:
                best[row.name] = ours
    return list(best.values())


def image_size(run: Run) -> tuple[int, int] | None:
    """Return height and width of the images that ``run`` was trained on, where it says so."""
    if "image_size" in run.params:
        height, width = json.loads(run.params["image_size"])
        return height, width
    if "dataset.sizes" not in run.params:  # of an earlier version
        return None
    chosen = run.params.get("train.size", "None")
    height, width = json.loads(run.params["dataset.sizes"])[0] if chosen == "None" else json.loads(chosen)
    return height, width


def setting_differences(row: Row, run: Run) -> list[str]:
    """Return what a run does otherwise than the paper, as far as the paper says (section 4.3)."""
    found = []
    size = image_size(run)
    if size is not None and size != row.image_size:
        found.append(f"{size[0]}x{size[1]} images, not {row.image_size[0]}x{row.image_size[1]}")
    optimizers = [run.params.get(f"train.phases.{i}.optimizer") for i in range(2)]
    if optimizers != ["adamw", "sgd"]:
        found.append(f"optimiser {' then '.join(name for name in optimizers if name)}, not adamw then sgd")
    schedule = run.params.get("train.phases.0.schedule", "constant")
    if schedule != "constant":
        found.append(f"{schedule} learning rate up to {run.params.get('train.phases.0.lr', '?')}")
    if epochs := run.metrics.get("epoch"):
        found.append(f"{epochs:.0f} epochs, at most 150 there")
    if run.params.get("train.pretrained", "None") != "None":
        found.append("started from trained weights")
    if run.params.get("train.amp") == "off":
        found.append("no AMP")
    if "test/loss" not in run.metrics:
        found.append("val also picked the checkpoint")
    return found
