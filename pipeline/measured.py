"""A split that was measured: its figures and examples, as pictures, as files, and as part of the MLflow run."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline import figures, pictures, tracking, view
from pipeline.checkpoint import Trained
from pipeline.examples import Guesses, Scenes
from pipeline.manifest import Manifest
from pipeline.metrics import Classification, Metrics
from pipeline.original import Original
from pipeline.paper import FIGURES
from pipeline.params import Params
from pipeline.paths import work_folder
from pipeline.pictures import encode_png
from pipeline.registry import log_model
from pipeline.view import save_view

PER_CLASS_METRICS = 50
"""Up to this many classes each one's figure becomes a metric of the run; beyond, the table has them."""


@dataclass(frozen=True)
class Measured:
    """One split, measured: ``figures`` by name, ``loss`` per target, ``seconds`` for all of it."""

    split: str
    metrics: Metrics
    loss: float
    samples: int
    seconds: float
    examples: Guesses | Scenes
    original: Original | None = None

    @property
    def figures(self) -> dict[str, float]:
        original = self.original.compute() if self.original else {}
        return {**self.metrics.compute(), **original, "loss": self.loss}


def draw(measured: Measured, manifest: Manifest) -> dict[str, Figure]:
    """The pictures of one measured split, by file name."""
    names, metrics, split = manifest.class_names, measured.metrics, measured.split
    classes = metrics.per_class()
    segmentation = manifest.task == "segmentation"
    values = [row.iou if segmentation else row.recall for row in classes]
    computed = metrics.compute()
    drawn = {
        "confusion": figures.confusion_matrix(metrics.confusion.numpy(), names),
        "per_class": figures.class_bars(
            values,
            names,
            [row.actual for row in classes],
            f"{'IoU' if segmentation else 'Recall'} per class ({split})",
            computed["miou" if segmentation else "mean_class_recall"],
        ),
    }
    examples, title = measured.examples, f"Predictions on {split} images"
    if isinstance(examples, Scenes):
        palette = manifest.palette or pictures.default_palette(len(names))
        show = partial(pictures.scenes, class_names=names, palette=palette)
        drawn["predictions"] = show(examples.spread, title=title)
        if worst := [example for _, example in examples.mistakes]:
            drawn["mistakes"] = show(worst, title="The worst: images of the lowest mIoU")
    else:
        drawn["predictions"] = pictures.guesses(examples.spread, names, title)
        if wrong := [example for _, example in examples.mistakes]:
            title = "The worst mistakes: wrong, and most confident"
            drawn["mistakes"] = pictures.guesses(wrong, names, title)
    if isinstance(metrics, Classification):
        bins = [row for row in metrics.calibration() if row.samples]
        drawn["calibration"] = figures.reliability(
            [row.confidence / row.samples for row in bins],
            [row.hits / row.samples for row in bins],
            [row.samples for row in bins],
        )
    return drawn


def write(
    out: Path,
    trained: Trained,
    measured: Mapping[str, Measured],
    chosen: Measured,
    class_names: list[str],
    drawn: Mapping[str, Figure],
) -> None:
    """The files that `evaluate` names."""
    for name, figure in drawn.items():
        figures.save(figure, out / "evaluate" / f"{name}.png")
    values: dict[str, Any] = {
        split: {key: round(value, 6) for key, value in part.figures.items() if math.isfinite(value)}
        for split, part in measured.items()
    }
    values |= {"parameters": trained.parameters, "best_epoch": trained.epoch}
    (out / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
    header = ["class", "actual", "predicted", "recall", "precision", "iou"]
    rows = zip(class_names, chosen.metrics.per_class(), strict=True)
    _write_csv(out / "per_class.csv", header, ([name, *map(_cell, row)] for name, row in rows))
    confusion = chosen.metrics.confusion
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    cells = (
        [class_names[i], class_names[j], int(confusion[i, j]), f"{float(shares[i, j]):.6f}"]
        for i, j in confusion.nonzero().tolist()
    )
    _write_csv(out / "confusion.csv", ["actual", "predicted", "count", "share"], cells)


def log(
    params: Params,
    checkpoint: Path,
    trained: Trained,
    measured: Mapping[str, Measured],
    chosen: Measured,
    out: Path,
) -> None:
    """The figures, the files and the network itself as part of the run that trained it."""
    work = work_folder("evaluate", trained.run_id or "unknown")
    tracker = tracking.Tracker(tracking.tracking_uri(params), params.data, work)
    tracker.start(run_id=trained.run_id, name=tracking.run_name(params), tags=tracking.source_tags())
    logged = {
        # val is also a curve of the training: its value for the network that was kept goes under a name of its own
        f"{'best_val' if split == 'val' else split}/{name}": value
        for split, part in measured.items()
        for name, value in part.figures.items()
        if math.isfinite(value)
    }
    logged["evaluate/images_per_second"] = chosen.samples / max(chosen.seconds, 1e-9)
    figure = "iou" if trained.task == "segmentation" else "recall"
    if len(trained.class_names) <= PER_CLASS_METRICS:
        rows = zip(trained.class_names, chosen.metrics.per_class(), strict=True)
        per_class = {f"class_{figure}/{_metric_name(name)}": getattr(row, figure) for name, row in rows}
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


def _describe(store: Any, run_id: str, trained: Trained, measured: Mapping[str, Measured]) -> None:
    """Give the run its description, and its experiment the view that shows runs beside one another."""
    number = store.get_run(run_id).info.experiment_id
    store.set_tag(run_id, "mlflow.note.content", _note(trained, measured, f"#/experiments/{number}/runs"))
    name = trained.metric.removeprefix("val/")
    score = f"test/{name}" if "test" in measured else f"best_val/{name}"
    # Few columns: the UI sorts them by name, and what does not fit lies out of sight on the right.
    save_view(store, run_id, [score, "parameters", "cost/train_images_per_second"])


def _note(trained: Trained, measured: Mapping[str, Measured], runs: str) -> str:
    """The run's description, in Markdown: what was reached, and where to look.

    Args:
        runs: the address of the experiment's runs within the UI.
    """
    height, width = trained.size
    name = trained.metric.removeprefix("val/")
    reached = ", ".join(
        f"**{100 * part.figures[name]:.2f} %** {FIGURES[name]} on {part.samples:,} {split} images"
        for split, part in reversed(list(measured.items()))
    )
    artifacts = f"{runs}/{trained.run_id}/artifacts"
    return (
        f"{reached}.\n\n"
        f"{trained.parameters:,} parameters, {trained.data} at {height}x{width}, "
        f"best epoch {trained.epoch} by {trained.metric}.\n\n"
        f"[The report]({artifacts}/report.html), [predictions]({artifacts}/evaluate/predictions.png), "
        f"[mistakes]({artifacts}/evaluate/mistakes.png), [the network]({artifacts}/checkpoint); "
        f"[all runs side by side]({runs}?viewStateShareKey={view.NAME}&compareRunsMode=CHART)."
    )


def _metric_name(name: str) -> str:
    """``name`` in the characters MLflow allows."""
    return "".join(char if char.isalnum() or char in "_-. :/" else "_" for char in name)


def _write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _cell(value: float) -> str:
    """A count in full, a figure to six places, NaN as nothing."""
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6f}"
