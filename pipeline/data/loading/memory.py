"""Training batches from a split that lies in memory."""

from __future__ import annotations

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
from pipeline.data.shards.reader import read_shard


def load_samples(folder: Path, manifest: Manifest, split: str) -> Samples:
    """Read a whole split into memory, decoding in threads.

    Raises:
        UserError: a shard is cut short, or holds other samples than the manifest says.
    """
    count = manifest.split(split).samples
    height, width = manifest.size
    images = np.empty((count, height, width, manifest.channels), dtype=np.uint8)
    targets = manifest.target.empty(count, manifest.size, manifest.num_classes)

    def fill(shard: Shard, start: int) -> None:
        for offset, (image, target) in enumerate(read_shard(folder / shard.name, shard, manifest)):
            images[start + offset] = image
            targets[start + offset] = target

    with ThreadPoolExecutor() as pool:
        start, jobs = 0, []
        for shard in manifest.split(split).shards:
            jobs.append(pool.submit(fill, shard, start))
            start += shard.samples
        for job in jobs:
            job.result()
    return Samples(torch.from_numpy(images), torch.from_numpy(targets))


def sample_bytes(manifest: Manifest) -> int:
    """Bytes of one decoded sample."""
    height, width = manifest.size
    target_bytes = manifest.target.sample_bytes(manifest.size, manifest.num_classes)
    return height * width * manifest.channels + target_bytes


def split_bytes(manifest: Manifest, split: str) -> int:
    """Bytes that `load_samples` takes."""
    return manifest.split(split).samples * sample_bytes(manifest)


@dataclass(frozen=True)
class MemoryLoader(Loader):
    """Training batches from samples that lie in memory, on the host or on the device."""

    samples: Samples

    def _take(self, epoch: int, first_batch: int) -> Iterator[tuple[Tensor, Batch]]:
        for indices in self.plan.batches(epoch, first_batch):
            numbers = upload(indices, self.samples.images.device)
            yield numbers, self.samples.take(numbers)
