"""One epoch of our Trainer, with MLflow and without, beside a plain PyTorch loop: ``python -m benchmarks.training``.

The same network, the same decoded images of noise, in turns. The plain loop has the authors' settings: a DataLoader
over images that are normalised one by one, float32 throughout, no channels_last, AdamW, the loss read at every step.
Rates are of the steps of an epoch, first steps included, validation and checkpoints not; per second of the processor,
threads included, which neighbours on a shared machine disturb less, or on a GPU of the clock. MLflow writes to SQLite
from a thread, the system's load as well; what opening and closing the run take does not grow with the training and is
given by itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.spread import spread
from benchmarks.synthetic import write_shards
from pipeline.core.device import device_name
from pipeline.data.loading.batch import Batch, Samples
from pipeline.data.loading.memory import load_samples
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params, parse_params
from pipeline.tasks.network import build_network
from pipeline.tracking.base import NullTracking
from pipeline.tracking.run import Tracker
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from pipeline.train.trainer import Trainer
from pipeline.train.training import prepare_training

Shares = defaultdict[str, float]
"""Seconds of each part."""


class Epoch(NamedTuple):
    rate: float
    """Images per second."""
    beside: float
    """Share of the processor's time that went to other threads than the loop's; with a GPU, gradients are among it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--depth", type=int, default=7)
    parser.add_argument("--expansion", default="deconvolution")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--amp", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    params = _params(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = {"train": options.samples, "val": options.batch_size}
        manifest = write_shards(folder / "shards", (options.size, options.size), splits, "raw")
        samples = load_samples(folder / "shards", manifest, "train")
        store, shares = f"sqlite:///{folder / 'mlflow.db'}", Shares(float)
        rates: dict[str, list[float]] = {"plain PyTorch": [], "ours": [], "ours, with MLflow": []}
        _our_loop(params, manifest, folder, "warm", store)  # imports MLflow and makes its tables
        opened: list[float] = []
        beside: dict[str, list[float]] = defaultdict(list)
        for number in range(options.rounds):
            rates["plain PyTorch"].append(_plain_loop(params, manifest, samples))
            alone = _our_loop(params, manifest, folder, f"alone-{number}")
            tracked = _our_loop(params, manifest, folder, f"tracked-{number}", store, opened=opened)
            for title, epoch in (("ours", alone), ("ours, with MLflow", tracked)):
                rates[title].append(epoch.rate)
                beside[title].append(epoch.beside)
        _our_loop(params, manifest, folder, "shares", shares=shares)
    print(f"{options.dim}/{options.depth} {options.expansion}, {options.size}x{options.size}", end=", ")
    print(
        f"batch {options.batch_size}, {options.samples} samples, {options.rounds} rounds, torch {torch.__version__}"
    )
    print("| loop | images/s, median (lowest to highest) |\n|---|---|")
    for title, values in rates.items():
        print(f"| {title} | {spread(values, ',.1f')} |")
    print()
    for one, other in (("ours", "plain PyTorch"), ("ours, with MLflow", "ours")):
        ratios = [a / b for a, b in zip(rates[one], rates[other], strict=True)]
        print(f"{one} / {other}: {spread(ratios, '.3f')}")
    print(f"opening and closing a run: {statistics.median(opened):.2f} s")
    for title, values in beside.items():
        print(f"the processor's time in threads beside the loop's, {title}: {spread(values, '.2%')}")
    print()
    print("| part of an epoch of ours | share |\n|---|---|")
    for part, seconds in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds / sum(shares.values()):.2%} |")


def _params(options: argparse.Namespace) -> Params:
    size = [options.size, options.size]
    return parse_params(
        {
            "data": "noise",
            "datasets": {"noise": {"reader": "image_folder", "sizes": [size]}},
            "model": {"dim": options.dim, "depth": options.depth, "expansion": options.expansion},
            "train": {
                "phases": [{"optimizer": "adamw", "epochs": 1}],
                "batch_size": options.batch_size,
                "amp": options.amp,
            },
        }
    )


class _Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, samples: Samples, manifest: Manifest) -> None:
        self.samples = samples
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in (manifest.mean, manifest.std))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.samples.images[index].permute(2, 0, 1).float().div(255)
        return (image - self.mean) / self.std, int(self.samples.targets[index])


def _plain_loop(params: Params, manifest: Manifest, samples: Samples) -> float:
    """Train one epoch; return images per second."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = build_network(params, manifest).to(device).train()
    data = DataLoader(_Images(samples, manifest), params.train.resolved_batch_size, shuffle=True)
    optimizer, criterion = torch.optim.AdamW(network.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    started, mean_loss = _now(device), 0.0
    for images, targets in data:
        optimizer.zero_grad()
        loss = criterion(network(images.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        mean_loss += loss.item() / len(data)
    return len(samples) / (_now(device) - started)


class _Stamps(Observer):
    """The times at which the epoch's steps began and ended: of the device, of the process, of this thread."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[tuple[float, float, float]] = []

    def on_start(self, state: TrainingState) -> None:  # noqa: ARG002
        self._stamp()

    def before_validation(self, state: TrainingState) -> None:  # noqa: ARG002
        self._stamp()

    def _stamp(self) -> None:
        self.times.append((_now(self.device), time.process_time(), time.thread_time()))


class _Shares(Observer):
    """Seconds of the loader and of the step, the device waited for around each; the rest is what lies between."""

    def __init__(self, device: torch.device, shares: Shares) -> None:
        self.device, self.shares = device, shares
        self._since = 0.0

    def on_start(self, state: TrainingState) -> None:  # noqa: ARG002
        self._since = _now(self.device)

    def before_step(self, state: TrainingState, batch: Batch) -> None:  # noqa: ARG002
        self._count("loader")

    def after_step(self, state: TrainingState) -> None:  # noqa: ARG002
        self._count("step: forward, backward, optimiser")

    def _count(self, part: str) -> None:
        now = _now(self.device)
        self.shares[part] += now - self._since
        self._since = now


def _our_loop(
    params: Params,
    manifest: Manifest,
    folder: Path,
    name: str,
    store: str | None = None,
    shares: Shares | None = None,
    opened: list[float] | None = None,
) -> Epoch:
    """Train one epoch, tracked in ``store``.

    ``opened`` takes the seconds of opening and closing the run; ``shares`` takes the seconds of the parts of the epoch,
    which costs some by itself.
    """
    training = prepare_training(params, manifest, folder / "shards", folder / name)
    device, tracker = (
        training.device,
        Tracker(store, "benchmark", folder / name) if store else NullTracking(),
    )
    opening = _now(device)
    tracker.start(name=name)
    opened_in = _now(device) - opening
    stamps = _Stamps(device)
    observers: list[Observer] = [stamps]
    if shares is not None:
        print(f"amp {training.amp}, {device_name(device)}")
        observers.append(_Shares(device, shares))
    Trainer(training, tracker, observers).run()
    closing = _now(device)
    tracker.finish()
    if opened is not None:
        opened.append(opened_in + _now(device) - closing)
    seconds, process, loop = (after - before for before, after in zip(*stamps.times, strict=True))
    if shares is not None:
        shares["between steps"] = seconds - sum(shares.values())
    return Epoch(manifest.split("train").samples / seconds, 1 - loop / process)


def _now(device: torch.device) -> float:
    """Return seconds of the processor that this process took, or of the clock where the work is a GPU's."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
