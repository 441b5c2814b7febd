"""Training batches from a split that is larger than memory, and the choice of where a split lies.

Shards are read in the windows of the `Plan`, one window ahead of the training, from the disk or from the object store
that the manifest names. At most two windows of decoded samples are held (their share of this rank), and beside them
one undecoded shard per thread. The tars are walked by our own reader rather than by webdataset's: a shard that is
short or has other bytes is an error there, not a shorter epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from pipeline.augment import build_augment
from pipeline.errors import UserError
from pipeline.loader import (
    Batch,
    Loader,
    MemoryLoader,
    ahead,
    load_samples,
    read_shard,
    sample_bytes,
    split_bytes,
)
from pipeline.manifest import Manifest
from pipeline.params import Params
from pipeline.plan import Plan

WINDOW_BYTES = 1 << 29
"""Decoded samples that are shuffled together: some 44,000 of 64x64. `prepare` has shuffled the whole split before,
so a window holds all classes. Not a parameter of the machine, as the order of the samples depends on it."""
HOST_SHARE, DEVICE_SHARE = 1 / 2, 1 / 3
"""Parts of the available memory of the host and of a GPU's that the split may take under ``machine.cache: auto``."""
MOST_THREADS = 8
"""Decoding is held up by Python's lock beyond that."""


Numbered = tuple[Tensor, Batch]
"""Samples and their numbers in the split (int64)."""


@dataclass(frozen=True)
class StreamLoader(Loader):
    """Training batches read while training; ``workers`` threads decode the next window."""

    folder: Path
    manifest: Manifest
    split: str = "train"
    workers: int = 1

    def _take(self, epoch: int, first_batch: int) -> Iterator[Numbered]:
        skip = self.samples_in(first_batch)
        batch, start = first_batch, 0
        wanted = []
        for shards, order in self.plan.windows(epoch):
            positions = torch.arange(start, start + len(order))
            start += len(order)
            mine = self.plan.mine(positions) & (positions >= skip)
            if start > skip:
                wanted.append((shards, order[mine]))
        left: Numbered | None = None
        for window in ahead(iter(wanted), self._read, 1):
            done = 0
            while batch < self.steps_per_epoch:
                size = self._size(batch)
                part = _cut(window, done, done + size - (len(left[0]) if left else 0))
                done += len(part[0])
                taken = _joined(left, part) if left else part
                if len(taken[0]) < size:
                    left = taken
                    break
                left = None
                yield taken
                batch += 1
            # While the one after the next is read, this one should be gone.
            del window, part, taken

    def _size(self, batch: int) -> int:
        """Samples of this rank in ``batch``."""
        first, last = self.samples_in(batch), self.samples_in(batch + 1)
        return int(self.plan.mine(torch.arange(first, last)).sum())

    def _read(self, window: tuple[list[int], Tensor]) -> Numbered:
        """The samples numbered as the order says, in that order, from these shards."""
        shards, order = window
        numbers = order.numpy()
        (height, width), channels = self.manifest.size, self.manifest.channels
        images = np.empty((len(numbers), height, width, channels), dtype=np.uint8)
        masks = self.manifest.task == "segmentation"
        targets = np.empty(
            (len(numbers), height, width) if masks else len(numbers), dtype=np.uint8 if masks else np.int64
        )
        starts = np.concatenate([[0], np.cumsum(self.plan.shards)])

        def fill(number: int) -> None:
            shard = self.manifest.split(self.split).shards[number]
            here = np.flatnonzero((numbers >= starts[number]) & (numbers < starts[number + 1]))
            # Position in the shard -> position in the window, in the shard's order.
            slots = dict(sorted(zip((numbers[here] - starts[number]).tolist(), here.tolist(), strict=True)))
            if not slots:
                return
            samples = read_shard(self.folder / shard.name, shard, self.manifest, slots)
            for slot, (image, target) in zip(slots.values(), samples, strict=True):
                images[slot], targets[slot] = image, target

        with ThreadPoolExecutor(self.workers) as pool:
            for _ in pool.map(fill, shards):
                pass
        return order, Batch(torch.from_numpy(images), torch.from_numpy(targets))


def _cut(samples: Numbered, first: int, last: int) -> Numbered:
    """A copy of a part: a view would keep its whole window for as long as somebody holds the batch."""
    numbers, batch = samples
    return numbers[first:last].clone(), Batch(
        batch.image[first:last].clone(), batch.target[first:last].clone()
    )


def _joined(*parts: Numbered) -> Numbered:
    """All of ``parts`` in one, copied."""
    return torch.cat([numbers for numbers, _ in parts]), Batch(
        torch.cat([batch.image for _, batch in parts]), torch.cat([batch.target for _, batch in parts])
    )


def open_loader(
    params: Params, manifest: Manifest, folder: Path, device: torch.device, rank: int, world_size: int
) -> Loader:
    """The training batches of ``params``, from wherever ``machine.cache`` puts the split.

    Raises:
        UserError: the batch size does not fit the split, the augmentation is wrong, or the shards are.
    """
    settings, split = params.train, manifest.split("train")
    _check_batch_size(settings.settled_batch_size, split.samples, world_size)
    augment = build_augment(settings.augment, manifest, settings.seed)
    threads = min(params.machine.workers or psutil.cpu_count() or 1, MOST_THREADS)
    on_host = augment is not None and augment.on_host
    plan = Plan(
        tuple(shard.samples for shard in split.shards),
        settings.settled_batch_size,
        settings.seed,
        rank,
        world_size,
        window=max(1, WINDOW_BYTES // sample_bytes(manifest)),
    )
    ahead_threads = threads if on_host else 0
    cache: str = params.machine.cache
    if cache == "auto":
        cache = _place(split_bytes(manifest, "train"), device, world_size, on_host)
    if cache == "stream":
        return StreamLoader(plan, folder, manifest, workers=threads, augment=augment, threads=ahead_threads)
    samples = load_samples(folder, manifest, "train")
    # What Albumentations works on has to lie on the host.
    if cache == "device" and not on_host:
        samples = samples.to(device)
    return MemoryLoader(plan, samples, augment=augment, threads=ahead_threads)


def _check_batch_size(batch_size: int, samples: int, world_size: int) -> None:
    if batch_size > samples:
        raise UserError(
            f"train.batch_size: got {batch_size}, the train split has {samples} samples; allowed: 2 to that"
        )
    if 0 < samples % batch_size < world_size:
        raise UserError(
            f"train.batch_size: got {batch_size}, so the last batch of an epoch has {samples % batch_size} samples "
            f"for {world_size} processes; allowed: one that leaves each process a sample"
        )


def _place(length: int, device: torch.device, world_size: int, on_host: bool) -> str:
    if device.type == "cuda" and not on_host:
        memory = torch.cuda.get_device_properties(device).total_memory
        if length < memory * DEVICE_SHARE:
            return "device"
    # As if all processes were on this host: each of them holds the whole split.
    return "host" if length * world_size < psutil.virtual_memory().available * HOST_SHARE else "stream"
