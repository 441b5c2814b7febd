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
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.loader import evaluation_batches
from pipeline.machine import choose_amp, choose_device, device_name
from pipeline.manifest import Manifest, read_manifest
from pipeline.page import table
from pipeline.params import Params
from pipeline.paths import shards_folder
from pipeline.tasks import normalise
from pipeline.trial import Trial
from wavemix.measure import count_macs, count_parameters

BATCH = 64
"""The paper's "GPU RAM for batch size 64"."""
CARDS_GB = (16, 40)
"""The paper's V100 and A100."""
WARM_UP, REPEATS = 2, 5
"""Runs that do not count, and those that do."""
END_TO_END_BATCHES = 20


@dataclass(frozen=True)
class Figure:
    """One figure; ``spread`` is the standard deviation over ``n`` runs, ``how`` says how it was got."""

    name: str
    value: float
    unit: str
    how: str
    n: int = 1
    spread: float = 0.0


def benchmark(params: Params, out: Path) -> list[Figure]:
    """Measure the network of ``params`` (freshly made: weights do not matter) at its images' size.

    Writes ``benchmark.json`` and ``benchmark.md`` to ``out``.

    Raises:
        UserError: there are no shards of the data, or the device is not there.
    """
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    device = choose_device(params.machine.device)
    amp = choose_amp(params.train.amp, device)
    bench = Bench(params, manifest, device, amp)
    figures = [*bench.size(), *bench.memory(), *bench.throughput(), bench.end_to_end(folder)]
    where = {
        "device": device_name(device),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "amp": amp,
        "image": list(manifest.size),
        "batch": bench.batch,
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
            figure.name.replace("_", " "),
            _number(figure.value) + (f" ± {_number(figure.spread)}" if figure.n > 1 else ""),
            figure.unit,
            figure.n,
            figure.how,
        )
        for figure in figures
    ]
    header = ["figure", "value", "unit", "n", "how"]
    return table(header, rows) + "\n" + ", ".join(f"{name}: {value}" for name, value in where.items()) + ".\n"


def _number(value: float) -> str:
    """Three digits or more, never a meaningless tail."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class Bench:
    """One network on one device."""

    def __init__(self, params: Params, manifest: Manifest, device: torch.device, amp: str) -> None:
        self.manifest, self.device = manifest, device
        self.trial = Trial(params, manifest, device, amp)
        self.model = self.trial.network
        # On a CPU a batch of 64 of Cityscapes' size takes minutes and more memory than most have.
        pixels = manifest.size[0] * manifest.size[1]
        self.batch = BATCH if device.type != "cpu" else max(1, min(BATCH, 2**19 // pixels))

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
            # Twice as many at least: what does not grow with the batch is told by comparing it with half of it.
            kept = self.trial.kept_bytes(max(2, self.batch)) / 1e6
            how = "counted: tensors saved for backward, the loss left out; no GPU here"
            return [Figure("kept_for_backward_mb", kept, "MB an image", how)]
        small, large = self.trial.peak_bytes(BATCH // 2), self.trial.peak_bytes(BATCH)
        per_image = (large - small) / (BATCH - BATCH // 2)
        fixed = large - per_image * BATCH
        figures = [Figure("train_memory_batch64_gb", large / 1e9, "GB", "measured, peak allocated")]
        for card in CARDS_GB:
            fits = (card * 1e9 - fixed) / per_image
            how = f"extrapolated from batches of {BATCH // 2} and {BATCH}"
            figures.append(Figure(f"max_batch_{card}gb", int(fits), "images", how))
        return figures

    def throughput(self) -> list[Figure]:
        """Images a second, network only: the batch already lies on the device."""
        images, target = self.trial.images(self.batch), self.trial.target(self.batch)
        self.model.train()
        figures = [
            self._timed("train_images_per_second", partial(self.trial.step, images, target), "no loading")
        ]
        fused = self.model.fuse()

        def infer() -> None:
            with torch.inference_mode(), self.trial.autocast():
                fused(images)

        figures.append(self._timed("test_images_per_second", infer, "no loading; fused for inference"))
        return figures

    def end_to_end(self, folder: Path) -> Figure:
        """Images a second from the shards to the metrics."""
        model = self.model.fuse()
        split = "val"
        metrics = self.trial.task.metrics(self.manifest.num_classes, self.device)
        seen = 0
        started = time.perf_counter()
        with torch.inference_mode(), self.trial.autocast():
            for number, batch in enumerate(evaluation_batches(folder, self.manifest, split, self.batch)):
                if number == END_TO_END_BATCHES:
                    break
                image = normalise(batch.image.to(self.device), self.manifest.mean, self.manifest.std)
                metrics.update(model(image), batch.target.to(self.device))
                seen += len(batch.image)
        metrics.compute()
        rate = seen / (time.perf_counter() - started)
        how = f"measured, {seen} {split} images read, decoded and counted"
        return Figure("test_end_to_end_images_per_second", rate, "images/s", how)

    def _timed(self, name: str, work: Callable[[], None], note: str) -> Figure:
        for _ in range(WARM_UP):
            work()
        rates = []
        for _ in range(REPEATS):
            self._wait()
            started = time.perf_counter()
            work()
            self._wait()
            rates.append(self.batch / (time.perf_counter() - started))
        how = f"measured, batch {self.batch}, {note}"
        return Figure(name, statistics.mean(rates), "images/s", how, REPEATS, statistics.stdev(rates))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
