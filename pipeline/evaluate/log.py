"""The evaluation as part of the MLflow run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.checkpoints.trained import Trained
from pipeline.core.paths import work_folder
from pipeline.evaluate.result import SplitResult
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.tasks import TASKS
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking import names, run, ui_view
from pipeline.tracking.registry import log_model
from pipeline.tracking.ui_view import save_view

PER_CLASS_METRICS = 50
"""Up to this many classes each one's figure becomes a metric of the run; beyond, the table has them."""


def log(
    params: Params,
    checkpoint: Path,
    trained: Trained,
    measured: Mapping[str, SplitResult],
    chosen: SplitResult,
    out: Path,
) -> None:
    """The figures, the files and the network itself as part of the run that trained it."""
    work = work_folder("evaluate", trained.run_id or "unknown")
    tracker = run.Tracker(names.tracking_uri(params), params.data, work)
    tracker.start(run_id=trained.run_id, name=names.run_name(params), tags=names.source_tags())
    logged = {
        # val is also a curve of the training: its value for the network that was kept goes under a name of its own
        f"{'best_val' if split == 'val' else split}/{name}": value
        for split, part in measured.items()
        for name, value in part.values.items()
        if math.isfinite(value)
    }
    logged["evaluate/images_per_second"] = chosen.samples / max(chosen.seconds, 1e-9)
    column = TASKS[trained.task].class_metric
    if len(trained.class_names) <= PER_CLASS_METRICS:
        rows = zip(trained.class_names, chosen.metrics.per_class(), strict=True)
        per_class = {f"class_{column}/{_metric_name(name)}": getattr(row, column) for name, row in rows}
        logged |= {name: value for name, value in per_class.items() if math.isfinite(value)}
    tracker.log_metrics(logged)
    tracker.submit("description", partial(_describe, trained=trained, measured=measured))
    for path in (out / "metrics.json", out / "per_class.csv", out / "confusion.csv", out / "evaluate"):
        tracker.log_artifact(path, "evaluate")
    images = [encode_png(example.image) for example in chosen.examples.spread[:2]]
    said: list[str] = []
    tracker.submit(
        "model", lambda store, run_id: said.append(log_model(store, run_id, checkpoint, trained, images))
    )
    tracker.finish()
    print(*said, sep="\n")


def _describe(store: Any, run_id: str, trained: Trained, measured: Mapping[str, SplitResult]) -> None:
    """Give the run its description, and its experiment the view that shows runs beside one another."""
    number = store.get_run(run_id).info.experiment_id
    store.set_tag(run_id, "mlflow.note.content", _note(trained, measured, f"#/experiments/{number}/runs"))
    name = trained.metric.removeprefix("val/")
    score = f"test/{name}" if "test" in measured else f"best_val/{name}"
    # Few columns: the UI sorts them by name, and what does not fit lies out of sight on the right.
    save_view(store, run_id, [score, "parameters", "cost/train_images_per_second"])


def _note(trained: Trained, measured: Mapping[str, SplitResult], runs: str) -> str:
    """The run's description, in Markdown: what was reached, and where to look.

    Args:
        runs: the address of the experiment's runs within the UI.
    """
    height, width = trained.size
    name = trained.metric.removeprefix("val/")
    reached = ", ".join(
        f"**{100 * part.values[name]:.2f} %** {METRIC_LABELS[name]} on {part.samples:,} {split} images"
        for split, part in reversed(list(measured.items()))
    )
    artifacts = f"{runs}/{trained.run_id}/artifacts"
    return (
        f"{reached}.\n\n"
        f"{trained.parameters:,} parameters, {trained.data} at {height}x{width}, "
        f"best epoch {trained.epoch} by {trained.metric}.\n\n"
        f"[The report]({artifacts}/report.html), [predictions]({artifacts}/evaluate/predictions.png), "
        f"[mistakes]({artifacts}/evaluate/mistakes.png), [the network]({artifacts}/checkpoint); "
        f"[all runs side by side]({runs}?viewStateShareKey={ui_view.NAME}&compareRunsMode=CHART)."
    )


def _metric_name(name: str) -> str:
    """``name`` in the characters MLflow allows."""
    return "".join(char if char.isalnum() or char in "_-. :/" else "_" for char in name)
