"""Opens the training batches of an experiment where the split lies."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from pipeline.core.errors import UserError
from pipeline.data.loading.augmentation import build_augment
from pipeline.data.loading.loader import Loader
from pipeline.data.loading.memory import MemoryLoader, load_on_device, load_samples, pixel_bytes, split_bytes
from pipeline.data.loading.node import agreed_place, copies_on_node, load_on_node
from pipeline.data.loading.order import SampleOrder
from pipeline.data.loading.streaming import StreamLoader
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import read_classes
from pipeline.params import Params

WINDOW_BYTES = 1 << 29
"""Decoded samples that are shuffled together: some 44,000 of 64x64. `prepare` has shuffled the whole split before,
so a window holds all classes. Not a parameter of the machine, as the order of the samples depends on it."""

HOST_SHARE, DEVICE_SHARE = 1 / 2, 1 / 3
"""Parts of the available memory of the host and of a GPU's that the split may take under ``machine.cache: auto``."""

MOST_THREADS = 8
"""Threads that decode for one process; beyond that they wait for Python's lock more than they decode."""


def open_loader(
    params: Params, manifest: Manifest, folder: Path, device: torch.device, rank: int, world_size: int
) -> Loader:
    """Open the training batches of ``params``, from wherever ``machine.cache`` puts the split.

    Raises:
        UserError: the batch size does not fit the split, the augmentation is wrong, or the shards are.
    """
    settings, split = params.train, manifest.split("train")
    if settings.sampling == "balanced" and (manifest.target.spatial or not manifest.target.exclusive):
        raise UserError(
            f"train.sampling: got balanced, but {manifest.dataset} is {manifest.task}, whose images have no one class; "
            "allowed: shuffled"
        )
    _check_batch_size(settings.resolved_batch_size, split.samples, world_size)
    augment = build_augment(settings.augment, manifest, settings.seed)
    threads = min(params.machine.workers or psutil.cpu_count() or 1, MOST_THREADS)
    on_host = augment is not None and augment.on_host
    plan = SampleOrder(
        tuple(shard.samples for shard in split.shards),
        settings.resolved_batch_size,
        settings.seed,
        rank,
        world_size,
        window=max(1, WINDOW_BYTES // pixel_bytes(manifest)),
        classes=read_classes(folder, manifest, "train") if settings.sampling == "balanced" else None,
    )
    ahead_threads = threads if on_host else 0
    cache: str = params.machine.cache
    if cache == "auto":
        cache = choose_cache(manifest, device, on_host)
        cache = agreed_place(cache) if world_size > 1 else cache
    if cache == "stream":
        return StreamLoader(plan, folder, manifest, workers=threads, augment=augment, threads=ahead_threads)
    # What Albumentations works on has to lie on the host.
    if cache == "device" and device.type != "cpu" and not on_host:
        samples = load_on_device(folder, manifest, "train", device)
    elif world_size > 1:
        samples = load_on_node(folder, manifest, "train")
    else:
        samples = load_samples(folder, manifest, "train")
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


def choose_cache(manifest: Manifest, device: torch.device, on_host: bool) -> str:
    """Return where the training split fits: device, host or stream.

    Args:
        on_host: whether it is augmented on the host, so that it has to lie there.
    """
    length = split_bytes(manifest, "train")
    if device.type == "cuda" and not on_host:
        memory = torch.cuda.get_device_properties(device).total_memory
        if length < memory * DEVICE_SHARE:
            return "device"
    return "host" if length * copies_on_node() < psutil.virtual_memory().available * HOST_SHARE else "stream"
