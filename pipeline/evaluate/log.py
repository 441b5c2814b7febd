"""The evaluation as part of the MLflow run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.checkpoints.trained import Trained
from pipeline.core.paths import work_folder
from pipeline.evaluate.result import SplitResult
from pipeline.inference.packaging import served_network
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.tasks import TASKS
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking import names, ui_view
from pipeline.tracking.run import Tracker

PER_CLASS_METRICS = 50
"""Up to this many classes the value of each becomes a metric of the run; beyond, the table has them."""


def log(
    params: Params,
    checkpoint: Path,
    trained: Trained,
    measured: Mapping[str, SplitResult],
    chosen: SplitResult,
    out: Path,
) -> None:
    """Log the metrics, the files and the network itself to the run that trained it."""
    work = work_folder("evaluate", trained.run_id or "unknown")
    tracker = Tracker(names.tracking_uri(params), params.data, work)
    tracker.start(run_id=trained.run_id, name=names.run_name(params), tags=names.source_tags())
    tracker.log_metrics(_metrics(trained, measured, chosen))
    name = trained.metric.removeprefix("val/")
    score = f"test/{name}" if "test" in measured else f"best_val/{name}"
    # Few columns: the UI sorts them by name, and what does not fit lies out of sight on the right.
    columns = [score, "parameters", "cost/train_images_per_second"]
    tracker.describe(partial(_note, trained, measured), columns)
    for path in (out / "metrics.json", out / "per_class.csv", out / "confusion.csv", out / "evaluate"):
        tracker.log_artifact(path, "evaluate")
    images = [encode_png(example.image) for example in chosen.examples.spread[:2]]
    tracker.register(served_network(checkpoint, trained, images))
    tracker.finish()


def _metrics(trained: Trained, measured: Mapping[str, SplitResult], chosen: SplitResult) -> dict[str, float]:
    """Return the metrics of all splits and, of few classes, of each class; those that are no number are left out."""
    # val is also a curve of the training: its value for the network that was kept goes under a name of its own
    metrics = {
        f"{'best_val' if split == 'val' else split}/{name}": value
        for split, part in measured.items()
        for name, value in part.values.items()
    }
    metrics["evaluate/images_per_second"] = chosen.samples / max(chosen.seconds, 1e-9)
    if len(trained.class_names) <= PER_CLASS_METRICS:
        of_class = TASKS[trained.task].class_metric
        rows = zip(trained.class_names, chosen.metrics.per_class(), strict=True)
        metrics |= {
            names.metric_name(f"class_{of_class}", name): getattr(row, of_class) for name, row in rows
        }
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _note(trained: Trained, measured: Mapping[str, SplitResult], runs: str, run_id: str) -> str:
    """Return the run's description in Markdown: what was reached, and where to look.

    Args:
        runs: the address of the experiment's runs within the UI.
    """
    height, width = trained.size
    name = trained.metric.removeprefix("val/")
    reached = ", ".join(
        f"**{100 * part.values[name]:.2f} %** {METRIC_LABELS[name]} on {part.samples:,} {split} images"
        for split, part in reversed(list(measured.items()))
    )
    artifacts = f"{runs}/{run_id}/artifacts"
    return (
        f"{reached}.\n\n"
        f"{trained.parameters:,} parameters, {trained.data} at {height}x{width}, "
        f"best epoch {trained.epoch} by {trained.metric}.\n\n"
        f"[The report]({artifacts}/report.html), [predictions]({artifacts}/evaluate/predictions.png), "
        f"[mistakes]({artifacts}/evaluate/mistakes.png), [the network]({artifacts}/checkpoint); "
        f"[all runs side by side]({runs}?viewStateShareKey={ui_view.NAME}&compareRunsMode=CHART)."
    )
