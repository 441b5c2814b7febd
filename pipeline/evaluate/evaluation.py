"""Measure a trained network on images it has not seen: metrics, tables and plots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from pipeline.checkpoints.trained import Trained, load_trained
from pipeline.core.device import choose_device, choose_precision
from pipeline.core.errors import UserError
from pipeline.data.loading.augmentation import augmented_size, build_augment
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import as_many_pixels, evaluation_batch_size, evaluation_batches
from pipeline.data.shards.folds import of_fold
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import Manifest, read_manifest
from pipeline.evaluate.log import log
from pipeline.evaluate.metrics import METRICS
from pipeline.evaluate.metrics.base import Measurement, ReportedMetric
from pipeline.evaluate.outputs import write
from pipeline.evaluate.plots import draw
from pipeline.evaluate.result import SplitResult
from pipeline.models.flip import flip_average
from pipeline.models.inputs import place
from pipeline.params import Params
from pipeline.tasks import task_of
from pipeline.tasks.metrics import Reduce
from pipeline.tasks.score import measure


def evaluate(params: Params, checkpoint: Path, out: Path) -> tuple[Trained, SplitResult]:
    """Measure the network in ``checkpoint`` on the prepared val split, and on test where there is one.

    Writes to ``out``: ``metrics.json``, ``per_class.csv``, ``confusion.csv`` and pictures under ``evaluate/``,
    all but the first of the test split, else val; logs the same to the run that trained the network. Under
    torchrun the samples are shared out; the values are the same.

    Returns the network's description and that split's result.

    Raises:
        UserError: no checkpoint, or one of another task, size or set of classes than the data.
    """
    loaded = load_trained(checkpoint)
    trained = loaded.trained
    folder = shards_folder(params.data, params.size)
    manifest = of_fold(read_manifest(folder), trained.fold)
    check_fits(trained, manifest, checkpoint)
    device = choose_device(params.machine.device)
    accelerator = Accelerator(
        mixed_precision=choose_precision(params.train.amp, device), cpu=device.type == "cpu"
    )
    model = place(loaded.network, accelerator.device)
    forward = flip_average(model) if params.evaluate.flip else model
    batch_size = trained.batch_size or 64  # which fits, since it was trained on
    part = evaluation_batch_size(batch_size, accelerator.num_processes, params.train.accumulate)
    if manifest.target.spatial:  # which may have been trained on crops
        augment = build_augment(params.train.augment, manifest, params.train.seed)
        part = as_many_pixels(part, augmented_size(augment, manifest), manifest.size)
    measured: dict[str, SplitResult] = {
        split: _measure(forward, params, manifest, folder, split, accelerator, part, trained)
        for split in ("val", "test")
        if split == "val" or split in manifest.splits
    }
    chosen = measured.get("test", measured["val"])
    if accelerator.is_main_process:
        drawn = draw(chosen, manifest)
        write(out, trained, measured, chosen, manifest.class_names, drawn)
        log(params, checkpoint, trained, measured, chosen, out)
    return trained, chosen


def check_fits(trained: Trained, manifest: Manifest, checkpoint: Path) -> None:
    """Refuse data of another kind than the network was trained on.

    Raises:
        UserError: says what differs.
    """
    for name, have in (
        ("task", trained.task),
        ("size", trained.prepared_size),
        ("channels", trained.channels),
        ("class_names", trained.class_names),
    ):
        want = getattr(manifest, name)
        if have != want:
            raise UserError(
                f"{checkpoint}: trained for {name} {_brief(have)}, but {manifest.dataset} has {_brief(want)}; "
                "train on this data, or set data: and train.size: to what the network was trained on"
            )


def _measure(
    forward: Callable[[Tensor], Tensor],
    params: Params,
    manifest: Manifest,
    folder: Path,
    split: str,
    accelerator: Accelerator,
    batch_size: int,
    trained: Trained,
) -> SplitResult:
    samples, ranks = manifest.split(split).samples, accelerator.num_processes
    task = task_of(manifest)
    examples = task.examples(manifest, samples)
    batches = evaluation_batches(
        folder, manifest, split, batch_size, accelerator.process_index, ranks, trained.size
    )
    sum_over_ranks = partial(accelerator.reduce, reduction="sum")
    reported = _open_metrics(
        Measurement(
            params, manifest, split, accelerator.device, accelerator.process_index, ranks, trained.decision
        ),
        sum_over_ranks,
    )

    def on_batch(batch: Batch, logits: Tensor) -> None:
        examples(batch, logits)
        for metric in reported:
            metric.on_batch(batch, logits)

    started = time.monotonic()
    with accelerator.autocast():
        metrics, loss = measure(
            forward,
            _progress(batches, split, -(-samples // ranks), accelerator.is_main_process),
            manifest,
            task.loss(params.train, manifest),
            accelerator.device,
            sum_over_ranks,
            on_batch,
        )
    for metric in reported:
        metric.reduce(sum_over_ranks)
        print(*metric.notes(), sep="\n", end="\n" if metric.notes() else "")
    if ranks > 1:
        examples.merge(gather_object([examples]))
    return SplitResult(
        split, metrics, loss.compute(), samples, time.monotonic() - started, examples, reported
    )


def _open_metrics(measurement: Measurement, sum_over_ranks: Reduce) -> list[ReportedMetric]:
    """Return the reported metrics that every rank can count: raw files on some hosts only are of no use."""
    found = []
    for open_metric in METRICS:
        metric = open_metric(measurement)
        have = torch.tensor(metric is not None, dtype=torch.int64, device=measurement.device)
        if int(sum_over_ranks(have)) == measurement.world_size and metric is not None:
            found.append(metric)
    return found


def _progress(batches: Iterable[Any], split: str, samples: int, shown: bool) -> Iterable[Any]:
    """Yield ``batches`` with a progress bar in images."""
    with tqdm(total=samples, unit="img", desc=f"evaluate {split}", disable=not shown) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch.image))


def _brief(value: Any) -> str:
    """Return ``value`` on one line: of many class names the number and the first few."""
    if isinstance(value, list):
        return f"{len(value)} ({', '.join(value[:3])}{', ...' if len(value) > 3 else ''})"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
