"""Training steps on noise, before there is a training: what they cost, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from pipeline import losses
from pipeline.errors import UserError
from pipeline.loader import split_bytes
from pipeline.machine import choose_amp, choose_device
from pipeline.manifest import Manifest
from pipeline.params import Params
from pipeline.tasks import build_network, normalise, place, task_of
from wavemix.measure import saved_bytes

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
HOST_SHARE, DEVICE_SHARE = 1 / 4, 0.9
"""Parts of the host's available memory that activations may take, and of a GPU's that a training may. The backward pass
about doubles the activations; a compiled network and other batches may take more than the steps that were tried."""
MOST_ON_HOST = 256
"""A few dozen images keep the cores of a CPU busy; more of them only make fewer steps of an epoch."""


class Trial:
    """A freshly made network of ``params`` that is trained on noise of the data's shape.

    Args:
        amp: no, bf16 or fp16, as `choose_amp` gives it.
    """

    def __init__(self, params: Params, manifest: Manifest, device: torch.device, amp: str) -> None:
        self.manifest, self.device, self.amp = manifest, device, AMP_TYPES.get(amp)
        self.task = task_of(manifest)
        self.loss = self.task.loss(params.train)
        self.network = place(build_network(params, manifest), device)
        self.optimizer = torch.optim.AdamW(self.network.parameters())

    def images(self, batch: int) -> Tensor:
        """Noise as the network takes it: float32 (batch, C, H, W)."""
        shape = (batch, *self.manifest.size, self.manifest.channels)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)
        return normalise(pixels, self.manifest.mean, self.manifest.std)

    def target(self, batch: int) -> Tensor:
        """Random classes: int64 (batch,), or (batch, H, W)."""
        shape = (batch, *self.manifest.size) if self.task.name == "segmentation" else (batch,)
        return torch.randint(0, self.manifest.num_classes, shape, device=self.device)

    def step(self, images: Tensor, target: Tensor) -> None:
        """Forward, backward, and a step of the optimiser."""
        self.network.train()
        with self.autocast():
            logits = self.network(images)
        mean = self.loss(logits, target) / losses.count(target)
        mean.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The precision asked for."""
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            yield

    def kept_bytes(self, batch: int = 2) -> float:
        """Bytes an image that a step keeps for its backward pass, the loss left out; ``batch`` at least 2."""
        self.network.train()
        return saved_bytes(self.network, self.images(batch), self.amp)

    def peak_bytes(self, batch: int) -> int:
        """Most memory allocated on the GPU during two training steps."""
        self.optimizer.zero_grad(set_to_none=True)  # a step before may have run out of memory half way
        images, target = self.images(batch), self.target(batch)
        torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(2):
            self.step(images, target)
        return torch.cuda.max_memory_allocated(self.device)


def settle_batch_size(params: Params, manifest: Manifest, kept: Path) -> Params:
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
    trial = Trial(params, manifest, processes.device, choose_amp(params.train.amp, processes.device))
    most = samples // parts
    if processes.device.type == "cuda":
        fits = _tried(trial, most, params.machine.cache)
    else:
        # A system that promises more memory than it has ends the process instead of telling it.
        memory = psutil.virtual_memory().available * HOST_SHARE / world_size
        fits = _power_of_two(min(most, max(1, MOST_ON_HOST // parts), memory / trial.kept_bytes()))
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


def _tried(trial: Trial, most: int, cache: str) -> int:
    """The largest power of two up to ``most`` of which the GPU takes two steps, or 0."""
    total = torch.cuda.get_device_properties(trial.device).total_memory
    held = split_bytes(trial.manifest, "train") / total if cache in ("auto", "device") else 0.0
    share = DEVICE_SHARE - (held if held < DEVICE_SHARE / 2 else 0.0)
    start = _power_of_two(min(most, share * total / trial.kept_bytes()))
    torch.cuda.set_per_process_memory_fraction(share, trial.device)
    try:
        return largest(trial.peak_bytes, start)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, trial.device)


def largest(work: Callable[[int], object], start: int) -> int:
    """The first of ``start``, half of it, a quarter, ... with which ``work`` does not run out of memory, or 0."""
    batch_size = start
    while batch_size > 0:
        try:
            work(batch_size)
            break
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # Out here the error, and with it the frames that hold the tensors, is gone.
        clear_device_cache(garbage_collection=True)
        batch_size //= 2
    return batch_size


def _power_of_two(number: float) -> int:
    """The largest one that is not more than ``number``; 0 below 1."""
    return 1 << (int(number).bit_length() - 1) if number >= 1 else 0
