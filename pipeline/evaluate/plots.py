"""The plots of one measured split."""

from __future__ import annotations

from matplotlib.figure import Figure

from pipeline.data.shards.manifest import Manifest
from pipeline.evaluate.result import SplitResult
from pipeline.plotting import charts
from pipeline.tasks import task_of


def draw(measured: SplitResult, manifest: Manifest) -> dict[str, Figure]:
    """Return the plots of one measured split, by file name."""
    task, metrics, names = task_of(manifest), measured.metrics, manifest.class_names
    classes = metrics.per_class()
    return {
        "confusion": charts.confusion_matrix(metrics.confusion.numpy(), metrics.totals.numpy(), names),
        "per_class": charts.class_bars(
            [getattr(row, task.class_metric) for row in classes],
            names,
            [row.actual for row in classes],
            f"{task.class_label} per class ({measured.split})",
            metrics.compute()[task.class_mean],
        ),
        **task.draw_examples(measured.examples, manifest, measured.split),
        **task.plots(metrics),
    }
