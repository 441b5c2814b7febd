"""One epoch of our Trainer beside a plain PyTorch loop, and its parts: ``python -m benchmarks.training``.

The same network, the same decoded images of noise, in turns. The plain loop has the authors' settings: a DataLoader
over images that are normalised one by one, float32 throughout, no channels_last, AdamW, the loss read at every step.
Rates are of the steps of an epoch, first steps included, validation and checkpoints not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.synthetic import write_shards
from pipeline.loader import Batch, Samples, load_samples
from pipeline.machine import device_name
from pipeline.manifest import Manifest
from pipeline.params import Params, parse_params
from pipeline.tasks import build_network
from pipeline.tracking import Tracker
from pipeline.trainer import Trainer

Shares = defaultdict[str, float]
"""Seconds of each part."""


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
        ours, plain, shares = [], [], Shares(float)
        for number in range(options.rounds):
            plain.append(_plain_loop(params, manifest, samples))
            ours.append(_our_loop(params, manifest, folder, f"rate-{number}"))
        _our_loop(params, manifest, folder, "shares", shares)
    ratios = [ours_rate / plain_rate for ours_rate, plain_rate in zip(ours, plain, strict=True)]
    print(f"{options.dim}/{options.depth} {options.expansion}, {options.size}x{options.size}", end=", ")
    print(
        f"batch {options.batch_size}, {options.samples} samples, {options.rounds} rounds, torch {torch.__version__}"
    )
    print("| loop | images/s, median (lowest to highest) |\n|---|---|")
    for title, rates in (("plain PyTorch", plain), ("ours", ours)):
        print(f"| {title} | {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) |")
    print(f"\nours / plain: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})\n")
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
    """Images per second of one epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = build_network(params, manifest).to(device).train()
    data = DataLoader(_Images(samples, manifest), params.train.settled_batch_size, shuffle=True)
    optimizer, criterion = torch.optim.AdamW(network.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    started, mean_loss = time.perf_counter(), 0.0
    for images, targets in data:
        optimizer.zero_grad()
        loss = criterion(network(images.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        mean_loss += loss.item() / len(data)
    return len(samples) / (time.perf_counter() - started)


def _our_loop(
    params: Params, manifest: Manifest, folder: Path, name: str, shares: Shares | None = None
) -> float:
    """Images per second of one epoch; ``shares`` takes the seconds of its parts, which costs some by itself."""
    trainer = Trainer(params, manifest, folder / "shards", folder / name)
    tracker = Tracker("", "benchmark", folder / name, enabled=False)
    if shares is not None:
        print(f"amp {trainer.amp}, {device_name(trainer.device)}")
        _watch(trainer, shares)
    trainer.run(tracker)
    rate = trainer.progress.curves[0]["train/images_per_second"]
    if shares is not None:
        seconds = manifest.split("train").samples / rate
        shares["the rest of the step"] = seconds - sum(shares.values())
    return rate


def _watch(trainer: Trainer, shares: Shares) -> None:
    """Count the seconds of the parts of a step; the device is waited for around each."""

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = _now(trainer.device)
            result = function(*arguments, **options)
            if trainer.model.training:  # validation is no part of a step
                shares[part] += _now(trainer.device) - started
            return result

        return call

    def epoch(*arguments: int) -> Iterator[Batch]:
        ask = watched("loader", partial(next, batches(*arguments), None))
        return iter(ask, None)

    prepare = trainer.accelerator.prepare_optimizer

    def prepare_watched(optimizer: torch.optim.Optimizer) -> Any:
        prepared = prepare(optimizer)
        prepared.step = watched("optimiser", prepared.step)
        return prepared

    batches = trainer.loader.epoch
    object.__setattr__(trainer.loader, "epoch", epoch)
    # Forward runs in Module.__call__, which looks at the instance's own `forward`.
    trainer.model.forward = watched("forward and backward", trainer.model.forward)
    trainer.accelerator.backward = watched("forward and backward", trainer.accelerator.backward)
    trainer.accelerator.prepare_optimizer = prepare_watched


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
