"""Checks of ``benchmarks.gpu`` that a device computes the right numbers, and the same ones after an interruption."""

from __future__ import annotations

from functools import cache, partial
from itertools import count
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from benchmarks.gpu_processes import gradients_of_two
from benchmarks.gpu_setup import Check, Row, Setup, Workload
from benchmarks.synthetic import write_shards
from pipeline.core.device import set_arithmetic
from pipeline.data.shards.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.profiling.probe import AMP_TYPES
from pipeline.tracking.base import NullTracking
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from pipeline.train.trainer import Trainer
from pipeline.train.training import prepare_training
from wavemix.model import WaveMixLite
from wavemix.wavelet import band_kernels, dwt, wavelet_filters

LIMITS = {"no": (1e-5, 2e-3), "fp16": (1e-3, 0.01), "bf16": (5e-3, 0.08)}
"""Largest relative errors of the loss and of the gradients by precision, some five times those of a CPU.

The gradients of float32 are far from its rounding: those before the last norm nearly cancel, as the pixels' mean is
classified, which a norm keeps constant.
"""
FP16_SCALE = 1024.0
"""Of the loss, so that small gradients survive."""

_runs = count()


def checks(setup: Setup) -> list[Check]:
    """Return the checks, the most telling first; what has no compiler's part in it before what has."""
    eager = [Check(f"loss and gradients, {amp}", 10, partial(_gradients, setup, amp)) for amp in LIMITS]
    compiled = [
        Check(f"loss and gradients compiled, {amp}", 60, partial(_gradients, setup, amp, compiled=True))
        for amp in ("no", setup.amp)
    ]
    if setup.device.type != "cuda":  # torch has no gradient scaling on a CPU, nor the trainer fp16
        eager = [check for check in eager if not check.name.endswith("fp16")]
    return [
        Check("Haar", 1, partial(_haar, setup)),
        Check("block", 3, partial(_block, setup)),
        *eager,
        Check("resumed training, deterministic", 10, partial(_resumed, setup, True)),
        Check("resumed training", 10, partial(_resumed, setup, False)),
        *(compiled if setup.amp != "no" else compiled[:1]),
        Check("two processes on one device", 20, partial(_two_processes, setup)),
        Check("resumed training compiled, deterministic", 60, partial(_resumed, setup, True, compiled=True)),
    ]


def _haar(setup: Setup) -> Row:
    """Compare the transform in float32 with float64 on the CPU."""
    set_arithmetic("no", deterministic=False)
    torch.manual_seed(0)
    images, kernels = torch.randn(4, 8, 33, 32, dtype=torch.float64), band_kernels(wavelet_filters("haar"))
    found = dwt(images.float().to(setup.device), kernels.float().to(setup.device))
    return _within(relative_error(found, dwt(images, kernels)), 1e-6)


def _block(setup: Setup) -> Row:
    """Compare a block's output and gradients in float32 with float64 on the CPU."""
    set_arithmetic("no", deterministic=False)
    workload = setup.sizes.checked
    network = cast(WaveMixLite, workload.probe(torch.device("cpu"), "no").network)
    block = network.blocks[0].double()
    maps = torch.randn(2, workload.dim, 16, 18, dtype=torch.float64)
    expected = _through(block, maps)
    found = _through(block.float().to(setup.device), maps.float().to(setup.device))
    return _within(max(map(relative_error, found, expected)), 1e-4)


def _through(block: nn.Module, maps: Tensor) -> list[Tensor]:
    """Return the block's output, and the gradients of the sum of its cubes for the input and the parameters."""
    maps = maps.requires_grad_()
    output = block(maps)
    return [output, *torch.autograd.grad(output.pow(3).sum(), [maps, *_slopes(block)])]


def _slopes(network: nn.Module) -> list[Tensor]:
    """Return the parameters whose gradients are not zero but for rounding, as those of biases before a norm are."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


class _Pass(NamedTuple):
    loss: Tensor
    gradients: Tensor
    """Of all parameters, as one vector."""


def _gradients(setup: Setup, amp: str, compiled: bool = False) -> Row:
    """Compare loss and gradients of a network with float64 on the CPU; compiled also with eager on the device."""
    set_arithmetic(amp, deterministic=False)
    workload = setup.sizes.checked
    expected = _expected(workload)
    eager = _loss_and_gradients(workload, setup.device, torch.float32, amp)
    found = _loss_and_gradients(workload, setup.device, torch.float32, amp, compiled) if compiled else eager
    loss = relative_error(found.loss, expected.loss)
    most_loss, most = LIMITS[amp]
    row = _within(relative_error(found.gradients, expected.gradients), most)
    words = f"{row.measured}; loss {loss:.1e}"
    if compiled:
        words += f"; eager {relative_error(eager.gradients, expected.gradients):.1e}"
    return Row(words, f"{row.against}; loss {most_loss:g}", row.passed and loss <= most_loss)


def _two_processes(setup: Setup) -> Row:
    """Compare the gradients of two processes in float32 with float64 in one process on the CPU."""
    workload = setup.sizes.checked
    found = gradients_of_two(workload, setup.device, setup.folder)
    return _within(relative_error(found, _expected(workload).gradients), LIMITS["no"][1])


@cache
def _expected(workload: Workload) -> _Pass:
    return _loss_and_gradients(workload, torch.device("cpu"), torch.float64, "no")


def _loss_and_gradients(
    workload: Workload, device: torch.device, dtype: torch.dtype, amp: str, compiled: bool = False
) -> _Pass:
    """Return them of the same weights and batch each time."""
    cpu = workload.probe(torch.device("cpu"), "no")
    images, target = cpu.images(workload.batch).to(device, dtype), cpu.target(workload.batch).to(device)
    network = cpu.network.to(device, dtype).train()
    torch._dynamo.reset()
    forward = torch.compile(network, dynamic=False) if compiled else network
    half = AMP_TYPES.get(amp)
    with torch.autocast(device.type, half, enabled=half is not None):
        logits = forward(images)
    loss = nn.functional.cross_entropy(logits if dtype == torch.float64 else logits.float(), target)
    scale = FP16_SCALE if amp == "fp16" else 1.0
    gradients = torch.autograd.grad(loss * scale, list(network.parameters()))
    return _Pass(loss.detach(), torch.cat([gradient.flatten() for gradient in gradients]) / scale)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over that of ``expected``, in float64 on the CPU."""
    expected = expected.detach().cpu().double()
    return float((found.detach().cpu().double() - expected).norm() / expected.norm())


def _within(error: float, limit: float) -> Row:
    return Row(f"relative error {error:.1e}", f"float64 on the CPU, at most {limit:g}", error <= limit)


class _Interrupted(Exception):
    """Ends a training in the middle of an epoch."""


class _Interrupt(Observer):
    """Ends the training after ``step`` steps; what was saved before is all that is left."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, state: TrainingState) -> None:
        if state.progress.step == self.step:
            raise _Interrupted


def _resumed(setup: Setup, deterministic: bool, compiled: bool = False) -> Row:
    """Train twice without a break and once with one, and compare the weights bit for bit.

    Equal weights are demanded of a deterministic training only.
    """
    manifest = _shards(setup)
    steps = -(-manifest.split("train").samples // setup.sizes.trained.batch)
    machine = {
        "device": setup.device.type,
        "deterministic": deterministic,
        "compile": "on" if compiled else "off",
        "checkpoint_seconds": 0,
    }
    try:
        first = _weights(setup, manifest, machine)
        again = _weights(setup, manifest, machine)
        resumed = _weights(setup, manifest, machine, _Interrupt(steps + steps // 2))
    finally:
        set_arithmetic("no", deterministic=False)
    words = [
        f"{name} {'equal' if other == first else 'different'}"
        for name, other in (("repeated", again), ("resumed", resumed))
    ]
    demanded = deterministic or setup.device.type == "cpu"
    against = "weights bit for bit" if demanded else "for information"
    return Row(", ".join(words), against, not demanded or first == again == resumed)


def _shards(setup: Setup) -> Manifest:
    workload, folder = setup.sizes.trained, setup.folder / "trained"
    if (folder / FILE_NAME).exists():
        return read_manifest(folder)
    return write_shards(folder, workload.size, {"train": 5 * workload.batch, "val": workload.batch}, "raw")


def _weights(
    setup: Setup, manifest: Manifest, machine: dict[str, object], interrupt: _Interrupt | None = None
) -> str:
    """Return the digest of the weights after a training, interrupted and resumed where that is asked for."""
    params, work = setup.sizes.trained.params(machine), setup.folder / f"run-{next(_runs)}"
    if interrupt is not None:
        training = prepare_training(params, manifest, setup.folder / "trained", work)
        try:
            Trainer(training, NullTracking(), [interrupt]).run()
        except _Interrupted:
            pass
        else:
            raise RuntimeError("the training was over before it could be interrupted")
    torch._dynamo.reset()
    training = prepare_training(params, manifest, setup.folder / "trained", work)
    Trainer(training, NullTracking()).run()
    return training.state.digest()
