"""Training steps on noise, before there is a training: their cost, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn

from pipeline.data.shards.manifest import Manifest
from pipeline.models.inputs import normalise, place
from pipeline.params import Params
from pipeline.profiling.optimizers import build_optimizer
from pipeline.tasks import task_of
from pipeline.tasks.network import build_network, network_spec
from wavemix.measure import saved_bytes

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Probe:
    """A freshly built network of ``params`` that is trained on noise of the data's shape, by its first optimiser.

    Args:
        amp: no, bf16 or fp16, as `choose_precision` gives it.
    """

    def __init__(self, params: Params, manifest: Manifest, device: torch.device, amp: str) -> None:
        self.manifest, self.device, self.amp = manifest, device, AMP_TYPES.get(amp)
        self.task = task_of(manifest)
        self.loss = self.task.loss(params.train, manifest)
        self.model = params.model
        self.network = place(build_network(params, manifest), device)
        self.size = network_spec(params, manifest).size
        """Height and width of its images."""
        self.forward: nn.Module = self.network
        """The network as `step` calls it."""
        self.optimizer = build_optimizer(
            params.train.phases[0], self.network, params.train.decay_all, params.model.head
        )
        # As in training, small gradients must survive fp16.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp is torch.float16)

    def compile(self) -> None:
        """Have `step` call the network compiled from here on."""
        options: Any = self.model.compile_options(self.network, self.device.type, graphs=True)
        self.forward = cast(nn.Module, torch.compile(self.network, dynamic=False, options=options))

    def images(self, batch: int) -> Tensor:
        """Return noise as the network takes it: float32 (batch, C, H, W)."""
        shape = (batch, *self.size, self.manifest.channels)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)
        return normalise(pixels, self.manifest.mean, self.manifest.std)

    def target(self, batch: int) -> Tensor:
        """Return random targets as the loss takes them: int64 (batch, ...)."""
        manifest = self.manifest
        empty = manifest.target.empty(batch, self.size, manifest.num_classes)
        # 0 and 1 are classes, or the absence and presence of one, in every kind of target.
        return torch.randint(0, min(2, manifest.num_classes), empty.shape, device=self.device)

    def step(self, images: Tensor, target: Tensor) -> None:
        """Take one step of training: forward, backward, and the optimiser's."""
        self.network.train()
        with self.autocast():
            logits = self.forward(images)
        mean = self.loss(logits, target) / self.task.count(target)
        self.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in the precision requested."""
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            yield

    def kept_bytes(self, batch: int = 4) -> float:
        """Return the bytes per image that a step keeps for its backward pass, without the loss.

        ``batch`` is even, and its half too large for a batch norm on 1x1 maps to refuse.
        """
        self.network.train()
        return saved_bytes(self.network, self.images(batch), self.amp)

    def peak_bytes(self, batch: int) -> int:
        """Return the most memory allocated on the GPU during two training steps."""
        self.optimizer.zero_grad(set_to_none=True)  # a step before may have run out of memory half way
        images, target = self.images(batch), self.target(batch)
        torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(2):
            self.step(images, target)
        return torch.cuda.max_memory_allocated(self.device)


def largest(work: Callable[[int], object], start: int) -> int:
    """Return the first of ``start``, half of it, a quarter, ... with which ``work`` has memory enough, or 0."""
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
