"""The batch size that ``train.batch_size: auto`` stands for."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from pipeline.core.atomic import write_atomically
from pipeline.core.device import choose_precision, set_arithmetic
from pipeline.core.errors import UserError
from pipeline.data.loading.memory import split_bytes
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params
from pipeline.profiling.probe import Probe, largest
from pipeline.train.processes import Processes

HOST_SHARE, DEVICE_SHARE = 1 / 4, 0.9
"""Parts of the host's available memory that activations may take, and of a GPU's that a training may. The backward pass
about doubles the activations; a compiled network and other batches may take more than the steps that were tried."""
MAX_ON_HOST = 256
"""A few dozen images keep the cores of a CPU busy; more of them only make fewer steps of an epoch."""


def resolve_batch_size(params: Params, manifest: Manifest, kept: Path, processes: Processes) -> Params:
    """Return ``params`` with the largest batch size that fits every process in the place of ``train.batch_size: auto``.

    The number is written to ``kept`` and read from there ever after, so a training that is resumed keeps it.

    Raises:
        UserError: not even two images fit.
    """
    if params.train.batch_size != "auto":
        return params
    known = processes.from_first(lambda: int(kept.read_text()) if kept.exists() else None)
    batch_size = known or _find(params, manifest, processes)
    if processes.is_first:
        if not known:
            write_atomically(kept, str(batch_size))
        print(f"train.batch_size: auto is {batch_size}{', as before' if known else ''}")
    return params.model_copy(update={"train": params.train.model_copy(update={"batch_size": batch_size})})


def _find(params: Params, manifest: Manifest, processes: Processes) -> int:
    """Return the largest batch size, over all processes."""
    samples, world_size = manifest.split("train").samples, processes.world_size
    parts = world_size * params.train.accumulate
    amp = choose_precision(params.train.amp, processes.device)
    set_arithmetic(amp, params.machine.deterministic)  # other kernels may take other memory
    probe = Probe(params, manifest, processes.device, amp)
    max_ = samples // parts
    if processes.device.type == "cuda":
        fits = _tried(probe, max_, params.machine.cache)
    else:
        # A system that promises more memory than it has ends the process instead of telling it.
        memory = psutil.virtual_memory().available * HOST_SHARE / world_size
        fits = power_of_two(min(max_, max(1, MAX_ON_HOST // parts), memory / probe.kept_bytes()))
    batch_size = parts * processes.smallest(fits)
    # The last batch of an epoch has to have a sample for each process.
    while batch_size > 1 and 0 < samples % batch_size < world_size:
        batch_size //= 2
    if batch_size < 2:
        raise UserError(
            f"train.batch_size: got auto, and no batch fits the memory or the {samples} samples of train; set "
            "train.memory: lean, a smaller train.size or model.dim, or a batch_size"
        )
    return batch_size


def _tried(probe: Probe, max_: int, cache: str) -> int:
    """Return the largest power of two up to ``max_`` of which the GPU takes two steps, or 0."""
    total = torch.cuda.get_device_properties(probe.device).total_memory
    held = split_bytes(probe.manifest, "train") / total if cache in ("auto", "device") else 0.0
    share = DEVICE_SHARE - (held if held < DEVICE_SHARE / 2 else 0.0)
    start = power_of_two(min(max_, share * total / probe.kept_bytes()))
    torch.cuda.set_per_process_memory_fraction(share, probe.device)
    try:
        return largest(probe.peak_bytes, start)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, probe.device)


def power_of_two(number: float) -> int:
    """Return the largest one that is not more than ``number``; 0 below 1."""
    return 1 << (int(number).bit_length() - 1) if number >= 1 else 0
