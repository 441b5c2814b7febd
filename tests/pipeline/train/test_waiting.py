"""A training step only queues its work on a GPU: seen without one, on tensors that have a device and no content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.data.loading.augment_device import OnDevice
from pipeline.data.loading.batch import Samples
from pipeline.data.loading.memory import MemoryLoader
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.models import inputs
from pipeline.params import Params
from pipeline.profiling.optimizers import build_optimizer
from pipeline.tasks.network import build_network
from pipeline.train.state import TrainingState
from pipeline.train.training import prepare_training

GPU = torch.device("cuda", 0)
COPIES = {"aten._to_copy.default", "aten.copy_.default"}
READS = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"}


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names the operations for which the host waits: blocking copies between it and the GPU, and values read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options, name = kwargs or {}, str(function)
        devices = {value.device.type for value in args if isinstance(value, torch.Tensor)}
        if name in COPIES:
            devices.add(torch.device(options.get("device") or args[0].device).type)
            queued = options.get("non_blocking", False) or (len(args) > 2 and args[2])
            if len(devices) > 1 and not queued:
                self.seen.append(name)
        elif name in READS and "cuda" in devices:
            self.seen.append(name)
            if name == "aten._local_scalar_dense.default":
                return 1.0
        return function(*args, **options)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    inputs._shift_and_scale.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
        yield waits.seen
    inputs._shift_and_scale.cache_clear()


def test_the_watch_sees_what_waits(watched: list[str]) -> None:
    on_gpu = torch.zeros(3, device=GPU)
    torch.tensor([1.0], device=GPU)
    torch.arange(3).to(GPU)
    on_gpu.cpu()
    assert len(watched) == 3
    float(on_gpu.sum())
    assert len(watched) == 4
    torch.full((), 3, device=GPU)
    torch.arange(3).to(GPU, non_blocking=True)
    torch.where(on_gpu > 0, on_gpu, 2)
    assert len(watched) == 4


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_step_waits_for_nothing(toy: Callable[..., Params], watched: list[str], task: str) -> None:
    params = toy(task, clip_grad_norm=1.0, accumulate=2)
    folder = shards_folder("toy", (8, 12))
    manifest = read_manifest(folder)
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        training = prepare_training(params, manifest, folder, folder / "work")
    with GPU:
        network = build_network(params, manifest)
    state = TrainingState.begin(network, None, None, GPU)
    state.optimizer = build_optimizer(params.train.phases[0], network, True, params.model.head)
    accelerator = training.accelerator
    accelerator.backward = lambda _: _give_gradients(network)  # autograd asks for a real GPU
    train_step = replace(training.step, model=network, state=state)
    augment = OnDevice(
        [("HorizontalFlip", {}), ("Pad", {"padding": 1}), ("RandomCrop", {"height": 8, "width": 12})],
        0,
        task == "segmentation",
    )
    targets = (
        torch.zeros((50, 8, 12), dtype=torch.uint8, device=GPU)
        if task == "segmentation"
        else torch.zeros(50, dtype=torch.int64, device=GPU)
    )
    samples = Samples(torch.zeros((50, 8, 12, 3), dtype=torch.uint8, device=GPU), targets)
    loader = MemoryLoader(training.loader.plan, samples, augment=augment)
    for step, batch in enumerate(loader.epoch(0)):
        train_step(batch, 1e-3)
        if step == 0:
            watched.clear()  # the first one makes what the later ones use
    assert watched == []
    assert len(list(network.parameters())) > 0


def _give_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
