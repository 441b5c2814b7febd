"""What a network costs: the resource columns of the paper's tables, each with how it was got.

On a GPU memory and throughput are measured on the device. A CPU has no memory of its own to fill, so there the
bytes that a training step keeps for its backward pass are counted instead, and the largest batches are not given.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.core.device import choose_device, choose_precision, device_name
from pipeline.core.markdown import table
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.loading.open_loader import open_loader
from pipeline.data.loading.prefetch import prefetch
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import Manifest, read_manifest
from pipeline.models.inputs import normalise
from pipeline.params import Params
from pipeline.profiling.probe import Probe, largest
from wavemix.measure import count_macs, count_parameters

BATCH = 64
"""The paper's "GPU RAM for batch size 64"."""


CARDS_GB = (16, 40)
"""The paper's V100 and A100."""


WARM_UP, REPEATS = 2, 5
"""Runs that do not count, and those that do."""


END_TO_END_BATCHES = 4
"""Batches in one such run from the shards on: a single one may have been read ahead."""


LABELS = {
    "forward_gmacs": "multiply-accumulates, forward",
    "kept_for_backward_mb": "activations kept for the backward pass",
    "train_memory_batch64_gb": "GPU memory, training at batch 64",
    **{f"max_batch_{card}gb": f"largest training batch in {card} GB" for card in CARDS_GB},
    "train_images_per_second": "training, network only",
    "test_images_per_second": "inference, network only",
    "train_end_to_end_images_per_second": "training, end to end",
    "test_end_to_end_images_per_second": "inference, end to end",
}


@dataclass(frozen=True)
class Figure:
    """One figure; ``spread`` is the standard deviation over ``n`` runs, ``how`` says how it was got."""

    name: str
    value: float
    unit: str
    how: str
    n: int = 1
    spread: float = 0.0

    def __str__(self) -> str:
        return f"{LABELS.get(self.name, self.name)}: {_number(self.value)} {self.unit}".rstrip()


def benchmark(params: Params, out: Path) -> list[Figure]:
    """Measure the network of ``params`` (freshly made: weights do not matter) at its images' size.

    Writes ``benchmark.json`` and ``benchmark.md`` to ``out``.

    Raises:
        UserError: there are no shards of the data, or the device is not there.
    """
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    device = choose_device(params.machine.device)
    amp = choose_precision(params.train.amp, device)
    bench = Bench(params, manifest, device, amp)
    figures = [*bench.size(), *bench.memory(), *bench.throughput(), *bench.end_to_end(params, folder)]
    where = {
        "device": device_name(device),
        "processor": _processor(),
        "torch": torch.__version__,
        "amp": amp,
        "image": list(manifest.size),
    }
    out.mkdir(parents=True, exist_ok=True)
    record = {"where": where, "figures": {figure.name: asdict(figure) for figure in figures}}
    (out / "benchmark.json").write_text(json.dumps(record, indent=2) + "\n")
    (out / "benchmark.md").write_text(as_markdown(figures, where), encoding="utf-8")
    return figures


def as_markdown(figures: list[Figure], where: dict[str, Any]) -> str:
    """The figures as a table, and what they were measured on."""
    rows = [
        (
            LABELS.get(figure.name, figure.name),
            _number(figure.value) + (f" ± {_number(figure.spread)}" if figure.n > 1 else ""),
            figure.unit,
            figure.n,
            figure.how,
        )
        for figure in figures
    ]
    header = ["figure", "value", "unit", "n", "how"]
    height, width = where["image"]
    return table(header, rows) + (
        f"\nOn {where['device']} ({where['processor']}), images of {height}x{width}, amp {where['amp']}, "
        f"torch {where['torch']}, not compiled.\n"
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _number(value: float) -> str:
    """Three digits or more, never a meaningless tail."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class Bench:
    """One network on one device."""

    def __init__(self, params: Params, manifest: Manifest, device: torch.device, amp: str) -> None:
        self.manifest, self.device = manifest, device
        self.trial = Probe(params, manifest, device, amp)
        self.model = self.trial.network
        # On a CPU a batch of 64 of Cityscapes' size takes minutes and more memory than most have.
        pixels = manifest.size[0] * manifest.size[1]
        most = BATCH if device.type != "cpu" else max(2, min(BATCH, 2**19 // pixels))
        most = min(most, manifest.split("train").samples)
        self.batch = largest(self.trial.peak_bytes, most) if device.type == "cuda" else most

    def size(self) -> list[Figure]:
        """Parameters and multiply-accumulates of one image."""
        self.model.eval()
        return [
            Figure("parameters", count_parameters(self.model), "", "counted"),
            Figure(
                "forward_gmacs",
                count_macs(self.model, self.trial.images(1)) / 1e9,
                "GMAC an image",
                "counted",
            ),
        ]

    def memory(self) -> list[Figure]:
        """What training takes at a batch of 64, and the largest batches that fit the paper's cards."""
        if self.device.type != "cuda":
            kept = self.trial.kept_bytes(self.batch) / 1e6
            how = "counted: tensors saved for backward, the loss left out; no GPU here"
            return [Figure("kept_for_backward_mb", kept, "MB an image", how)]
        half = self.batch // 2
        small, large = self.trial.peak_bytes(half), self.trial.peak_bytes(self.batch)
        per_image = (large - small) / (self.batch - half)
        fixed = large - per_image * self.batch
        extrapolated = f"extrapolated from batches of {half} and {self.batch}"
        how = "measured, peak allocated" if self.batch == BATCH else extrapolated
        figures = [Figure("train_memory_batch64_gb", (fixed + per_image * BATCH) / 1e9, "GB", how)]
        for card in CARDS_GB:
            fits = (card * 1e9 - fixed) / per_image
            figures.append(Figure(f"max_batch_{card}gb", int(fits), "images", extrapolated))
        return figures

    def throughput(self) -> list[Figure]:
        """Images a second, network only: the batch already lies on the device."""
        images, target = self.trial.images(self.batch), self.trial.target(self.batch)
        fused = self.trial.model.for_inference(self.model)

        def train() -> int:
            self.trial.step(images, target)
            return self.batch

        def test() -> int:
            with torch.inference_mode(), self.trial.autocast():
                fused(images)
            return self.batch

        return [
            self._timed("train_images_per_second", train, "no loading"),
            self._timed("test_images_per_second", test, "no loading; fused for inference"),
        ]

    def end_to_end(self, params: Params, folder: Path) -> list[Figure]:
        """Images a second from the shards on: to the optimiser's step, and to the metrics."""
        settings = params.train.model_copy(update={"batch_size": self.batch})
        loader = open_loader(
            params.model_copy(update={"train": settings}), self.manifest, folder, self.device, 0, 1
        )
        training = prefetch((batch for epoch in count() for batch in loader.epoch(epoch)), self.device)
        testing = (
            batch for _ in count() for batch in evaluation_batches(folder, self.manifest, "val", self.batch)
        )
        metrics = self.trial.task.metrics(self.manifest.num_classes, self.device)
        fused = self.trial.model.for_inference(self.model)

        def train() -> int:
            seen = 0
            for batch in islice(training, END_TO_END_BATCHES):
                self.trial.step(*self._on_device(batch))
                seen += len(batch.image)
            return seen

        def test() -> int:
            seen = 0
            for batch in islice(testing, END_TO_END_BATCHES):
                images, target = self._on_device(batch)
                with torch.inference_mode(), self.trial.autocast():
                    metrics.update(fused(images), target)
                seen += len(batch.image)
            return seen

        return [
            self._timed("train_end_to_end_images_per_second", train, "loaded and augmented as in training"),
            self._timed("test_end_to_end_images_per_second", test, "val images read, decoded and counted"),
        ]

    def _timed(self, name: str, work: Callable[[], int], note: str) -> Figure:
        """Images a second of ``work``, which says how many it did."""
        for _ in range(WARM_UP):
            work()
        rates = []
        for _ in range(REPEATS):
            self._wait()
            started = time.perf_counter()
            images = work()
            self._wait()
            rates.append(images / (time.perf_counter() - started))
        how = f"measured, batch {self.batch}, {note}"
        return Figure(name, statistics.mean(rates), "images/s", how, REPEATS, statistics.stdev(rates))

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A loader's batch as the network and the loss take it."""
        images = normalise(batch.image.to(self.device), self.manifest.mean, self.manifest.std)
        return images, batch.target.to(self.device).long()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
