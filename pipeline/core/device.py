"""The device, the precision, and the memory of this machine."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.core.errors import UserError


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


def choose_precision(wanted: str, device: torch.device) -> str:
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
