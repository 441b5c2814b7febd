"""The cost of a network: the resource columns of the paper's tables, each with how it was got.

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
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.core.device import choose_compile, choose_device, choose_precision, device_name
from pipeline.core.markdown import table
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.loading.open_loader import open_loader
from pipeline.data.loading.prefetch import prefetch
from pipeline.data.shards.folds import fold_names, of_fold
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
MIN_BATCHES, MIN_SECONDS = 20, 0.3
"""A run ends after so many batches or seconds, whichever comes first, and only then is the device waited for."""


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
class Cost:
    """One metric; ``spread`` is its standard deviation over ``n`` runs, ``how`` says how it was got."""

    name: str
    value: float
    unit: str
    how: str
    n: int = 1
    spread: float = 0.0

    def __str__(self) -> str:
        return f"{LABELS.get(self.name, self.name)}: {_number(self.value)} {self.unit}".rstrip()


def benchmark(params: Params, out: Path) -> list[Cost]:
    """Measure the network of ``params`` (freshly built: weights do not matter) at its images' size.

    Writes ``benchmark.json`` and ``benchmark.md`` to ``out``.

    Raises:
        UserError: there are no shards of the data, or the device is not there.
    """
    folder = shards_folder(params.data, params.size)
    prepared = read_manifest(folder)
    manifest = of_fold(prepared, 0 if fold_names(prepared) else None)
    device = choose_device(params.machine.device)
    amp = choose_precision(params.train.amp, device)
    bench = Bench(params, manifest, device, amp)
    costs = [*bench.size(), *bench.memory()]
    # Memory is the paper's, eager; time is that of the training that would run.
    compiled = choose_compile(params.machine.compile, device)
    if compiled:
        bench.probe.compile()
    costs += [*bench.throughput(), *bench.end_to_end(params, folder)]
    where = {
        "device": device_name(device),
        "processor": _processor(),
        "torch": torch.__version__,
        "amp": amp,
        "image": list(bench.probe.size),
        "compiled": compiled,
    }
    out.mkdir(parents=True, exist_ok=True)
    record = {"where": where, "figures": {cost.name: asdict(cost) for cost in costs}}
    (out / "benchmark.json").write_text(json.dumps(record, indent=2) + "\n")
    (out / "benchmark.md").write_text(as_markdown(costs, where), encoding="utf-8")
    return costs


def as_markdown(costs: list[Cost], where: dict[str, Any]) -> str:
    """Return the costs as a table, and a line on where they were measured."""
    rows = [
        (
            LABELS.get(cost.name, cost.name),
            _number(cost.value) + (f" ± {_number(cost.spread)}" if cost.n > 1 else ""),
            cost.unit,
            cost.n,
            cost.how,
        )
        for cost in costs
    ]
    header = ["metric", "value", "unit", "n", "how"]
    height, width = where["image"]
    return table(header, rows) + (
        f"\nOn {where['device']} ({where['processor']}), images of {height}x{width}, amp {where['amp']}, "
        f"torch {where['torch']}; training {'compiled' if where['compiled'] else 'not compiled'}.\n"
    )


def _processor() -> str:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _number(value: float) -> str:
    """Return three digits or more, never a meaningless tail."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class Bench:
    """One network on one device."""

    def __init__(self, params: Params, manifest: Manifest, device: torch.device, amp: str) -> None:
        self.manifest, self.device = manifest, device
        self.probe = Probe(params, manifest, device, amp)
        self.model = self.probe.network
        # On a CPU a batch of 64 of Cityscapes' size takes minutes and more memory than most have.
        pixels = self.probe.size[0] * self.probe.size[1]
        max_ = BATCH if device.type != "cpu" else max(2, min(BATCH, 2**19 // pixels))
        max_ = min(max_, manifest.split("train").samples)
        self.batch = largest(self.probe.peak_bytes, max_) if device.type == "cuda" else max_

    def size(self) -> list[Cost]:
        """Count parameters, and multiply-accumulates of one image."""
        self.model.eval()
        return [
            Cost("parameters", count_parameters(self.model), "", "counted"),
            Cost(
                "forward_gmacs",
                count_macs(self.model, self.probe.images(1)) / 1e9,
                "GMAC an image",
                "counted",
            ),
        ]

    def memory(self) -> list[Cost]:
        """Measure what training takes at a batch of 64; extrapolate the largest batches that fit the paper's cards."""
        if self.device.type != "cuda":
            kept = self.probe.kept_bytes(self.batch) / 1e6
            how = "counted: tensors saved for backward, the loss left out; no GPU here"
            return [Cost("kept_for_backward_mb", kept, "MB an image", how)]
        half = self.batch // 2
        small, large = self.probe.peak_bytes(half), self.probe.peak_bytes(self.batch)
        per_image = (large - small) / (self.batch - half)
        fixed = large - per_image * self.batch
        extrapolated = f"extrapolated from batches of {half} and {self.batch}"
        how = "measured, peak allocated" if self.batch == BATCH else extrapolated
        costs = [Cost("train_memory_batch64_gb", (fixed + per_image * BATCH) / 1e9, "GB", how)]
        for card in CARDS_GB:
            fits = (card * 1e9 - fixed) / per_image
            costs.append(Cost(f"max_batch_{card}gb", int(fits), "images", extrapolated))
        return costs

    def throughput(self) -> list[Cost]:
        """Measure images a second of the network only: the batch already lies on the device."""
        images, target = self.probe.images(self.batch), self.probe.target(self.batch)
        fused = self.probe.model.for_inference(self.model)

        def train() -> int:
            self.probe.step(images, target)
            return self.batch

        def test() -> int:
            with torch.inference_mode(), self.probe.autocast():
                fused(images)
            return self.batch

        return [
            self._timed("train_images_per_second", train, "no loading"),
            self._timed("test_images_per_second", test, "no loading; fused for inference"),
        ]

    def end_to_end(self, params: Params, folder: Path) -> list[Cost]:
        """Measure images a second from the shards to the optimiser's step, and to the metrics."""
        settings = params.train.model_copy(update={"batch_size": self.batch})
        loader = open_loader(
            params.model_copy(update={"train": settings}), self.manifest, folder, self.device, 0, 1
        )
        training = prefetch((batch for epoch in count() for batch in loader.epoch(epoch)), self.device)
        testing = (
            batch
            for _ in count()
            for batch in evaluation_batches(folder, self.manifest, "val", self.batch, size=self.probe.size)
        )
        metrics = self.probe.task.metrics(self.manifest.num_classes, self.device)
        fused = self.probe.model.for_inference(self.model)

        def train() -> int:
            batch = next(training)
            self.probe.step(*self._on_device(batch))
            return len(batch.image)

        def test() -> int:
            batch = next(testing)
            images, target = self._on_device(batch)
            with torch.inference_mode(), self.probe.autocast():
                metrics.update(fused(images), target)
            return len(batch.image)

        return [
            self._timed("train_end_to_end_images_per_second", train, "loaded and augmented as in training"),
            self._timed("test_end_to_end_images_per_second", test, "val images read, decoded and counted"),
        ]

    def _timed(self, name: str, work: Callable[[], int], note: str) -> Cost:
        """Measure images a second of ``work``, which does one batch and returns its size."""
        for _ in range(WARM_UP):
            work()
        rates = [self._rate(work) for _ in range(REPEATS)]
        how = f"measured, batch {self.batch}, {note}"
        return Cost(name, statistics.mean(rates), "images/s", how, REPEATS, statistics.stdev(rates))

    def _rate(self, work: Callable[[], int]) -> float:
        """Return images a second over enough batches that waiting for the device does not count."""
        self._wait()
        started, images = time.perf_counter(), 0
        for _ in range(MIN_BATCHES):
            images += work()
            if time.perf_counter() - started > MIN_SECONDS:
                break
        self._wait()
        return images / (time.perf_counter() - started)

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a loader's batch as the network and the loss take it."""
        images = normalise(batch.image.to(self.device), self.manifest.mean, self.manifest.std)
        return images, batch.target.to(self.device).long()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
