"""Training batches from a split that lies in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.core.device import upload
from pipeline.data.loading.batch import Batch, Samples
from pipeline.data.loading.loader import Loader
from pipeline.data.shards.manifest import Manifest, Shard
from pipeline.data.shards.reader import ShardReader, empty_samples


def load_samples(folder: Path, manifest: Manifest, split: str) -> Samples:
    """Read a whole split into memory, decoding in threads.

    Raises:
        UserError: a shard is cut short, or holds other samples than the manifest says.
    """
    images, targets = empty_samples(manifest, manifest.split(split).samples)

    def fill(job: tuple[Shard, int]) -> None:
        shard, start = job
        part = slice(start, start + shard.samples)
        ShardReader(folder, shard, manifest).read(np.arange(shard.samples), images[part], targets[part])

    shards = manifest.split(split).shards
    starts = itertools.accumulate((shard.samples for shard in shards), initial=0)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, zip(shards, starts, strict=False)):
            pass
    return Samples(torch.from_numpy(images), torch.from_numpy(targets))


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
        for indices in self.plan.batches(epoch, first_batch):
            numbers = upload(indices, self.samples.images.device)
            yield numbers, self.samples.take(numbers)
