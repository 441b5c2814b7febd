"""What this machine has, and what was asked of it: device, precision, and the signals that end a stage."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

import torch
from torch import Tensor

from pipeline.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """The device that ``machine.device`` names; auto takes a GPU where there is one.

    Raises:
        UserError: there is no such device here.
    """
    available = [name for name, is_there in _DEVICES.items() if is_there()]
    name = available[0] if wanted == "auto" else wanted
    if name not in available:
        raise UserError(
            f"machine.device: got {wanted!r}, this machine has {', '.join(available)}; or write auto"
        )
    return torch.device(name)


_DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}


def choose_amp(wanted: str, device: torch.device) -> str:
    """The precision really used, in Accelerate's words: no, bf16 or fp16.

    Raises:
        UserError: fp16 on a device that would ignore it.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise UserError(
            f"train.amp: got fp16 on {device.type}, which ignores it; allowed here: auto, off, bf16"
        )
    if wanted != "auto":
        return {"off": "no"}.get(wanted, wanted)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "no"


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; where it does not, bf16 is slower than float32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and bool(torch.cpu._is_avx512_bf16_supported())


def peak_memory(device: torch.device) -> tuple[str, float]:
    """Metric name and GB: the most memory the device gave out, or the most the process held on a CPU."""
    if device.type == "cuda":
        return "system/peak_gpu_memory_gb", torch.cuda.max_memory_allocated(device) / 1e9
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return "system/peak_memory_gb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def is_first_process() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started; it need not have met them."""
    return os.environ.get("RANK", "0") == "0"


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; from the host to a GPU the copy is only queued, as page-locked memory allows."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def device_name(device: torch.device) -> str:
    """What to call the device in a record of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


class StopSignal:
    """Notes SIGINT and SIGTERM instead of dying of them, so that work can be saved first.

    A second signal of the same kind is obeyed at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)
