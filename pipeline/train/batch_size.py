"""The batch size that ``train.batch_size: auto`` stands for."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather

from pipeline.core.device import choose_device, choose_precision
from pipeline.core.errors import UserError
from pipeline.data.loading.memory import split_bytes
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params
from pipeline.profiling.probe import Probe, largest

HOST_SHARE, DEVICE_SHARE = 1 / 4, 0.9
"""Parts of the host's available memory that activations may take, and of a GPU's that a training may. The backward pass
about doubles the activations; a compiled network and other batches may take more than the steps that were tried."""


MOST_ON_HOST = 256
"""A few dozen images keep the cores of a CPU busy; more of them only make fewer steps of an epoch."""


def resolve_batch_size(params: Params, manifest: Manifest, kept: Path) -> Params:
    """``params`` with a number in the place of ``train.batch_size: auto``: the largest that fits every process.

    The number is written to ``kept`` and read from there ever after, so a training that goes on never changes it.

    Raises:
        UserError: not even two images fit.
    """
    if params.train.batch_size != "auto":
        return params
    device = choose_device(params.machine.device)
    processes = PartialState(cpu=device.type == "cpu")
    known = int(kept.read_text()) if kept.exists() else 0
    # The first process's word goes: elsewhere the file may not be seen yet.
    batch_size = int(broadcast(torch.tensor(known, device=processes.device)))
    if batch_size == 0:
        batch_size = _find(params, manifest, processes)
        if processes.is_main_process:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            part.write_text(str(batch_size))
            part.replace(kept)
    if processes.is_main_process:
        print(f"train.batch_size: auto is {batch_size}{', as before' if known else ''}")
    return params.model_copy(update={"train": params.train.model_copy(update={"batch_size": batch_size})})


def _find(params: Params, manifest: Manifest, processes: PartialState) -> int:
    """The largest batch over all processes."""
    samples, world_size = manifest.split("train").samples, processes.num_processes
    parts = world_size * params.train.accumulate
    trial = Probe(params, manifest, processes.device, choose_precision(params.train.amp, processes.device))
    most = samples // parts
    if processes.device.type == "cuda":
        fits = _tried(trial, most, params.machine.cache)
    else:
        # A system that promises more memory than it has ends the process instead of telling it.
        memory = psutil.virtual_memory().available * HOST_SHARE / world_size
        fits = power_of_two(min(most, max(1, MOST_ON_HOST // parts), memory / trial.kept_bytes()))
    batch_size: int = parts * int(gather(torch.tensor([fits], device=processes.device)).min())
    # The last batch of an epoch has to have a sample for each process.
    while batch_size > 1 and 0 < samples % batch_size < world_size:
        batch_size //= 2
    if batch_size < 2:
        raise UserError(
            f"train.batch_size: got auto, and no batch fits the memory or the {samples} samples of train; set "
            "train.memory: lean, a smaller train.size or model.dim, or a batch_size"
        )
    return batch_size


def _tried(trial: Probe, most: int, cache: str) -> int:
    """The largest power of two up to ``most`` of which the GPU takes two steps, or 0."""
    total = torch.cuda.get_device_properties(trial.device).total_memory
    held = split_bytes(trial.manifest, "train") / total if cache in ("auto", "device") else 0.0
    share = DEVICE_SHARE - (held if held < DEVICE_SHARE / 2 else 0.0)
    start = power_of_two(min(most, share * total / trial.kept_bytes()))
    torch.cuda.set_per_process_memory_fraction(share, trial.device)
    try:
        return largest(trial.peak_bytes, start)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, trial.device)


def power_of_two(number: float) -> int:
    """The largest one that is not more than ``number``; 0 below 1."""
    return 1 << (int(number).bit_length() - 1) if number >= 1 else 0
