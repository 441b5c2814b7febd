"""What a trained network is worth on images it has not seen, in figures and in pictures."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from pipeline import figures, pictures, tracking
from pipeline.checkpoint import Trained, load_trained
from pipeline.errors import UserError
from pipeline.examples import Guesses, Scenes, examples_of
from pipeline.loader import Batch, evaluation_batches
from pipeline.machine import choose_amp, choose_device
from pipeline.manifest import Manifest, read_manifest
from pipeline.metrics import Classification, Metrics
from pipeline.original import Original
from pipeline.params import Params
from pipeline.paths import shards_folder, work_folder
from pipeline.pictures import encode_png
from pipeline.registry import log_model
from pipeline.tasks import measure, task_of

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


def evaluate(params: Params, checkpoint: Path, out: Path) -> tuple[Trained, Measured]:
    """Measure the network in ``checkpoint`` on the prepared val split, and on test where there is one.

    Writes to ``out``: ``metrics.json``, ``per_class.csv``, ``confusion.csv`` and pictures under ``evaluate/``,
    all but the first of the test split, else val; logs the same to the run that trained the network. Under
    torchrun the samples are shared out; the figures are the same.

    Returns the network's description and that split's figures.

    Raises:
        UserError: no checkpoint, or one of another task, size or set of classes than the data.
    """
    model, trained = load_trained(checkpoint)
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    check_fits(trained, manifest, checkpoint)
    device = choose_device(params.machine.device)
    accelerator = Accelerator(mixed_precision=choose_amp(params.train.amp, device), cpu=device.type == "cpu")
    model = model.to(accelerator.device).to(memory_format=torch.channels_last)
    forward = flip_average(model) if params.evaluate.flip else model
    measured: dict[str, Measured] = {
        split: _measure(forward, params, manifest, folder, split, accelerator)
        for split in ("val", "test")
        if split == "val" or split in manifest.splits
    }
    chosen = measured.get("test", measured["val"])
    if accelerator.is_main_process:
        drawn = draw(chosen, manifest)
        write(out, trained, measured, chosen, manifest.class_names, drawn)
        _log(params, checkpoint, trained, measured, chosen, out)
    return trained, chosen


def check_fits(trained: Trained, manifest: Manifest, checkpoint: Path) -> None:
    """Refuse data of another kind than the network was trained on.

    Raises:
        UserError: says what differs.
    """
    for name in ("task", "size", "channels", "class_names"):
        have, want = getattr(trained, name), getattr(manifest, name)
        if have != want:
            raise UserError(
                f"{checkpoint}: trained for {name} {_brief(have)}, but {manifest.dataset} has {_brief(want)}; "
                "train on this data, or set data: and train.size: to what the network was trained on"
            )


def flip_average(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``model`` on each image and on its mirror image, the logits averaged; masks are mirrored back."""

    def forward(images: Tensor) -> Tensor:
        mirrored = model(images.flip(-1))
        return (model(images) + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2

    return forward


def _measure(
    forward: Callable[[Tensor], Tensor],
    params: Params,
    manifest: Manifest,
    folder: Path,
    split: str,
    accelerator: Accelerator,
) -> Measured:
    samples, ranks = manifest.split(split).samples, accelerator.num_processes
    examples = examples_of(manifest, samples)
    batch_size = params.train.batch_size if isinstance(params.train.batch_size, int) else 64
    batches = evaluation_batches(folder, manifest, split, batch_size, accelerator.process_index, ranks)
    original = Original.of(params, manifest, split, accelerator.device, accelerator.process_index, ranks)
    sum_over_ranks = partial(accelerator.reduce, reduction="sum")
    have = torch.tensor(original is not None, dtype=torch.int64, device=accelerator.device)
    if int(sum_over_ranks(have)) < ranks:  # raw files on some hosts only are of no use
        original = None

    def look(batch: Batch, logits: Tensor) -> None:
        examples(batch, logits)
        if original is not None:
            original(logits)

    started = time.monotonic()
    with accelerator.autocast():
        metrics, loss = measure(
            forward,
            _progress(batches, split, -(-samples // ranks), accelerator.is_main_process),
            manifest,
            task_of(manifest).loss(params.train),
            accelerator.device,
            sum_over_ranks,
            look,
        )
    if original is not None:
        original.reduce(sum_over_ranks)
        for reason in original.left_out:
            print(f"left out of the mIoU at the labels' own size: {reason}")
    if ranks > 1:
        examples.merge(gather_object([examples]))
    return Measured(split, metrics, loss.compute(), samples, time.monotonic() - started, examples, original)


def _progress(batches: Iterable[Any], split: str, samples: int, shown: bool) -> Iterable[Any]:
    """``batches`` with a progress bar in images."""
    with tqdm(total=samples, unit="img", desc=f"evaluate {split}", disable=not shown) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch.image))


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


def _log(
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
    tracker.log_metrics(logged, trained.step)
    tracker.set_tags({"mlflow.note.content": _note(trained, measured)})
    for path in (out / "metrics.json", out / "per_class.csv", out / "confusion.csv", out / "evaluate"):
        tracker.log_artifact(path, "evaluate")
    images = [encode_png(example.image) for example in chosen.examples.spread[:2]]
    said: list[str] = []
    tracker.submit(
        "model", lambda store, run_id: said.append(log_model(store, run_id, checkpoint, trained, images))
    )
    tracker.finish()
    print(*said, sep="\n")


def _note(trained: Trained, measured: Mapping[str, Measured]) -> str:
    """The run's description, in Markdown: what was reached, and where to look."""
    height, width = trained.size
    name = trained.metric.removeprefix("val/")
    reached = ", ".join(
        f"**{100 * part.figures[name]:.2f} %** {name} on {part.samples:,} {split} images"
        for split, part in measured.items()
    )
    return (
        f"{reached}.\n\n"
        f"{trained.parameters:,} parameters, {trained.data} at {height}x{width}, "
        f"best epoch {trained.epoch} by {trained.metric}.\n\n"
        "Artifacts: `report.html` is the whole experiment on one page, `evaluate/` the tables and pictures, "
        "`checkpoint/` the network."
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


def _brief(value: Any) -> str:
    """``value`` on one line: of many class names the number and the first few."""
    if isinstance(value, list):
        return f"{len(value)} ({', '.join(value[:3])}{', ...' if len(value) > 3 else ''})"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
