"""The device, the precision, and the memory of this machine."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.core.errors import UserError


def choose_device(requested: str) -> torch.device:
    """Return the device that ``machine.device`` names; auto takes a GPU where there is one.

    Raises:
        UserError: there is no such device here.
    """
    available = [name for name, is_there in _DEVICES.items() if is_there()]
    name = available[0] if requested == "auto" else requested
    if name not in available:
        raise UserError(
            f"machine.device: got {requested!r}, this machine has {', '.join(available)}; or write auto"
        )
    return torch.device(name)


_DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}


def choose_precision(requested: str, device: torch.device) -> str:
    """Return the precision in use, in Accelerate's words: no, bf16 or fp16.

    auto is bf16 where the hardware multiplies it. A V100 or T4 only emulates it, slowly, so there it is fp16.

    Raises:
        UserError: fp16 on a device that would ignore it.
    """
    if requested == "fp16" and device.type != "cuda":
        raise UserError(
            f"train.amp: got fp16 on {device.type}, which ignores it; allowed here: auto, off, bf16"
        )
    if requested != "auto":
        return {"off": "no"}.get(requested, requested)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "no"


def _cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bf16 itself; where it does not, bf16 is slower than float32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and bool(torch.cpu._is_avx512_bf16_supported())


def choose_compile(requested: str, device: torch.device) -> bool:
    """Return whether ``machine.compile`` compiles the network: auto does on a GPU."""
    return requested == "on" or (requested == "auto" and device.type == "cuda")


def set_arithmetic(amp: str, deterministic: bool) -> None:
    """Decide, for the whole process, how exactly and how repeatably its kernels compute.

    Without mixed precision, float32 is float32: convolutions and matrix products do without TF32, which keeps 10 of
    23 bits. Where ``amp`` is bf16 or fp16, TF32 is the more exact of the two and serves what is left in float32.

    Args:
        amp: no, bf16 or fp16, as `choose_precision` gives it.
        deterministic: take only kernels that give the same bits at every run; an operation that has none raises
            `RuntimeError`. Otherwise cuDNN tries which kernel is fastest, and some add in any order.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = amp != "no"
    # cuDNN's trials pick faster kernels (a step of 128/7 takes 8 % less on an H100), but not the same at every run.
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
    # Even to say what holds already takes a second, in which the compiler is imported.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)


def precise_type(device: torch.device) -> torch.dtype:
    """Return the type to add up many numbers in: float64, or float32 on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def reset_peak_memory(device: torch.device) -> None:
    """Have `peak_memory` forget what a GPU gave out so far; the peak of a process on a CPU cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[str, float]:
    """Return a metric's name and GB: the most memory the GPU gave out, or the most the process held on a CPU."""
    if device.type == "cuda":
        return "system/peak_gpu_memory_gb", torch.cuda.max_memory_allocated(device) / 1e9
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return "system/peak_memory_gb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``; from the host to a GPU the copy is only queued, from page-locked memory."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def device_name(device: torch.device) -> str:
    """Return the device's name in records of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
