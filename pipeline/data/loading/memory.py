"""A split in memory, and training batches from it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.device import upload
from pipeline.data.loading.batch import Batch, Samples
from pipeline.data.loading.loader import Loader
from pipeline.data.shards.manifest import Manifest, Shard
from pipeline.data.shards.reader import ShardReader, empty_samples


def load_samples(folder: Path, manifest: Manifest, split: str) -> Samples:
    """Read a whole split into memory, decoding in threads.

    Raises:
        UserError: a shard is missing, cut short, or holds other samples than the manifest says.
    """
    images, targets = empty_samples(manifest, manifest.split(split).samples)
    fill_samples(images, targets, folder, manifest, split)
    return Samples(torch.from_numpy(images), torch.from_numpy(targets))


def fill_samples(
    images: NDArray[np.uint8],
    targets: NDArray[Any],
    folder: Path,
    manifest: Manifest,
    split: str,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Decode this rank's shards of ``split``, every ``world_size``-th, into their places in arrays of the whole.

    Raises:
        UserError: as `load_samples`.
    """

    def fill(job: tuple[Shard, int]) -> None:
        shard, start = job
        part = slice(start, start + shard.samples)
        ShardReader(folder, shard, manifest).read(np.arange(shard.samples), images[part], targets[part])

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, _starts(manifest, split)[rank::world_size]):
            pass


def load_on_device(folder: Path, manifest: Manifest, split: str, device: torch.device) -> Samples:
    """Read a whole split into the memory of ``device``; the host holds one shard of it at a time.

    Raises:
        UserError: as `load_samples`.
    """
    shards = manifest.split(split).shards
    # Copies to a GPU are some three times as fast from page-locked memory.
    staging = [
        part.pin_memory() if device.type == "cuda" else part
        for part in map(torch.from_numpy, empty_samples(manifest, max(shard.samples for shard in shards)))
    ]
    samples = manifest.split(split).samples
    whole = [torch.empty((samples, *part.shape[1:]), dtype=part.dtype, device=device) for part in staging]
    arrays = [part.numpy() for part in staging]
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for shard, start in _starts(manifest, split):
            reader = ShardReader(folder, shard, manifest)
            parts = np.array_split(np.arange(shard.samples), threads)
            reads = [pool.submit(reader.read, part, arrays[0], arrays[1], part) for part in parts]
            for read in reads:
                read.result()
            for part, stage in zip(whole, staging, strict=True):
                part[start : start + shard.samples].copy_(stage[: shard.samples])
    return Samples(*whole)


def _starts(manifest: Manifest, split: str) -> list[tuple[Shard, int]]:
    """Return the shards of ``split``, each with the number of its first sample."""
    shards = manifest.split(split).shards
    starts = itertools.accumulate((shard.samples for shard in shards), initial=0)
    return list(zip(shards, starts, strict=False))


def pixel_bytes(manifest: Manifest) -> int:
    """Return the bytes of the pixels of one decoded sample, those of its mask among them."""
    height, width = manifest.size
    return height * width * (manifest.channels + manifest.target.spatial)


def split_bytes(manifest: Manifest, split: str) -> int:
    """Return the bytes that `load_samples` takes."""
    height, width = manifest.size
    target_bytes = manifest.target.sample_bytes(manifest.size, manifest.num_classes)
    return manifest.split(split).samples * (height * width * manifest.channels + target_bytes)


@dataclass(frozen=True)
class MemoryLoader(Loader):
    """Training batches from samples that lie in memory, on the host or on the device."""

    samples: Samples

    def _take(self, epoch: int, first_batch: int) -> Iterator[tuple[Tensor, Batch]]:
        batches = list(self.plan.batches(epoch, first_batch))
        if batches:
            order = upload(torch.cat(batches), self.samples.images.device)
            sizes = [len(batch) for batch in batches]
            rows = order % self.plan.samples
            for numbers, places in zip(torch.split(order, sizes), torch.split(rows, sizes), strict=True):
                yield numbers, self.samples.take(places)
