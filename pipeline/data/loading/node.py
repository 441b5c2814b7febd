"""What the processes of one node share: a split in memory, and where it lies.

The memory has no name. The system frees it when the last process that maps it ends, however that ends.
"""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from pipeline.core.errors import UserError
from pipeline.data.loading.batch import Samples
from pipeline.data.loading.memory import fill_samples, load_samples
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import empty_samples

PLACES = ("device", "host", "stream")
"""Where a split may lie, from the fastest to the one that always fits."""


def agreed_place(place: str) -> str:
    """Return the slowest of the ``place`` that each process found: what they do next they do together."""
    places: list[str] = _gathered(place)
    return max(places, key=PLACES.index)


def copies_on_node() -> int:
    """Return how many copies of a split the processes of this node hold under ``machine.cache: host``."""
    return 1 if _shares() else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def load_on_node(folder: Path, manifest: Manifest, split: str) -> Samples:
    """Read a whole split into memory that the processes of this node share; each decodes a part of the shards.

    Raises:
        UserError: a shard is missing, cut short, or holds other samples than the manifest says; in all processes.
    """
    if not _shares():
        return load_samples(folder, manifest, split)
    rank, world_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    images, targets = _map_together(manifest, manifest.split(split).samples, rank)
    problem = None
    try:
        fill_samples(images, targets, folder, manifest, split, rank, world_size)
    except UserError as error:
        problem = str(error)
    for found in _gathered(problem):
        if found is not None:
            raise UserError(found)
    return Samples(torch.from_numpy(images), torch.from_numpy(targets))


def _shares() -> bool:
    """Return whether there are other processes on this node, and memory that they can share."""
    return (
        int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
        and distributed.is_initialized()
        and hasattr(os, "memfd_create")
    )


def _map_together(
    manifest: Manifest, samples: int, local_rank: int
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return images and targets of ``samples``, zeroed, in memory that the first process of the node made."""
    parts = [((samples, *like.shape[1:]), like.dtype) for like in empty_samples(manifest, 0)]
    # The targets lie first: whole words, so that both are aligned.
    lengths = [math.prod(shape) * dtype.itemsize for shape, dtype in parts]
    targets_first = -(-lengths[1] // mmap.PAGESIZE) * mmap.PAGESIZE
    descriptor = -1
    if local_rank == 0:
        descriptor = os.memfd_create("samples")
        os.truncate(descriptor, targets_first + lengths[0])
    # A node's ranks follow one another.
    process, opened = _gathered((os.getpid(), descriptor))[distributed.get_rank() - local_rank]
    with Path(f"/proc/{process}/fd/{opened}").open("r+b") as file:
        shared = mmap.mmap(file.fileno(), targets_first + lengths[0])
    _gathered(None)  # until then the first process has to keep the memory open
    if local_rank == 0:
        os.close(descriptor)
    images, targets = (
        np.frombuffer(shared, dtype, math.prod(shape), offset).reshape(shape)
        for (shape, dtype), offset in zip(parts, (targets_first, 0), strict=True)
    )
    return images, targets


def _gathered(value: Any) -> list[Any]:
    """Return the ``value`` of each process, by rank."""
    if not distributed.is_initialized():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
