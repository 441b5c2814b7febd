"""Samples a second on one core, from memory and streaming, beside stock WebDataset: ``python -m benchmarks.loader``.

Noise at 64x64 in a temporary folder, batches of 128, all in turns in one process. The first rate is per second of
processor time, which neighbours on a shared machine disturb less; the second is per second of wall clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import webdataset

from benchmarks.spread import spread
from benchmarks.synthetic import write_shards
from pipeline.data.loading.augmentation import build_augment
from pipeline.data.loading.loader import Loader
from pipeline.data.loading.memory import MemoryLoader, load_samples
from pipeline.data.loading.order import SampleOrder
from pipeline.data.loading.streaming import StreamLoader
from pipeline.data.shards.manifest import Manifest

BATCH = 128
BASELINE = "stock WebDataset, jpeg"
FLIP_AND_CROP = [
    {"HorizontalFlip": {}},
    {"Pad": {"padding": 4}},
    {"RandomCrop": {"height": 64, "width": 64}},
]
IN_ALBUMENTATIONS = [{"HorizontalFlip": {}}, {"RandomResizedCrop": {"size": [64, 64]}}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        contenders = _contenders(Path(folder), arguments.samples)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for epoch in range(arguments.rounds):
            for name, epoch_of in contenders.items():
                wall, cpu = time.perf_counter(), time.process_time()
                seen = sum(len(batch[0]) for batch in epoch_of(epoch))
                seconds = time.process_time() - cpu, time.perf_counter() - wall
                assert seen == arguments.samples, (name, seen)
                rates[name].append((seen / seconds[0], seen / seconds[1]))
    print(_table(rates))


def _contenders(folder: Path, samples: int) -> dict[str, Callable[[int], Iterable[Any]]]:
    """Batches of an epoch, by name."""
    manifests = {
        encoding: write_shards(folder / encoding, (64, 64), {"train": samples, "val": 1}, encoding)
        for encoding in ("raw", "jpeg")
    }
    raw = manifests["raw"]
    plan = SampleOrder(
        tuple(shard.samples for shard in raw.split("train").shards), BATCH, 0, window=samples // 2
    )
    held = load_samples(folder / "raw", raw, "train")

    def memory(recipe: Any = ()) -> Loader:
        return MemoryLoader(plan, held, augment=build_augment(recipe, raw, 0))

    def stream(encoding: str) -> Loader:
        return StreamLoader(plan, folder / encoding, manifests[encoding])

    return {
        BASELINE: lambda _: _stock(folder / "jpeg", manifests["jpeg"], "jpg"),
        "stock WebDataset, npy": lambda _: _stock(folder / "raw", raw, "npy"),
        "memory": memory().epoch,
        "memory, flip and crop": memory(FLIP_AND_CROP).epoch,
        "memory, Albumentations": memory(IN_ALBUMENTATIONS).epoch,
        "streaming, raw": stream("raw").epoch,
        "streaming, jpeg": stream("jpeg").epoch,
    }


def _stock(folder: Path, manifest: Manifest, extension: str) -> Iterable[Any]:
    """What WebDataset's documentation shows: shuffle shards and a buffer of samples, decode, batch."""
    shards = [str(folder / shard.name) for shard in manifest.split("train").shards]
    data = webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(1000)
    return data.decode("rgb8").to_tuple(extension, "cls").batched(BATCH)  # type: ignore[no-any-return]


def _table(rates: dict[str, list[tuple[float, float]]]) -> str:
    lines = [
        f"| from | samples/s of processor time | samples/s of wall clock | times {BASELINE} (lowest to highest) |",
        "|---|---|---|---|",
    ]
    for name, rounds in rates.items():
        cpu, wall = (statistics.median(round_[part] for round_ in rounds) for part in (0, 1))
        ratios = [round_[0] / base[0] for round_, base in zip(rounds, rates[BASELINE], strict=True)]
        lines.append(f"| {name} | {cpu:,.0f} | {wall:,.0f} | {spread(ratios, '.1f')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
