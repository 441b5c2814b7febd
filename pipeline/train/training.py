"""The parts of a training, built and checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from pipeline.checkpoints.pretrained import start_from
from pipeline.core.device import choose_compile, choose_device, choose_precision, set_arithmetic
from pipeline.core.errors import UserError
from pipeline.data.loading.augmentation import augmented_size
from pipeline.data.loading.evaluation import as_many_pixels, evaluation_batch_size
from pipeline.data.loading.loader import Loader
from pipeline.data.loading.open_loader import open_loader
from pipeline.data.shards.manifest import Manifest
from pipeline.models import NetworkSpec
from pipeline.models.inputs import place
from pipeline.params import Params
from pipeline.tasks import task_of
from pipeline.tasks.mixing import build_mixing
from pipeline.tasks.network import build_network, check_images, network_spec
from pipeline.train.average import WeightAverage
from pipeline.train.processes import Processes
from pipeline.train.state import TrainingState
from pipeline.train.step import TrainStep
from pipeline.train.validation import PRECISE_SHARE, PreciseStatistics, Validation
from wavemix.sync_norm import synchronise_batch_norm

SMALL_GRADIENTS = 25 << 20
"""Bytes of gradients, one of DistributedDataParallel's buckets, that travel at once anyway: to cut the compiled graph
for them only costs."""


@dataclass(frozen=True)
class Training:
    """One training, ready to be run by a `Trainer`."""

    params: Params
    manifest: Manifest
    spec: NetworkSpec
    """What the network is for."""
    processes: Processes
    amp: str
    """no, bf16 or fp16."""
    loader: Loader
    state: TrainingState
    step: TrainStep
    validation: Validation
    precise: PreciseStatistics | None
    """None where the running statistics serve, as in the paper."""
    work: Path
    """The folder of its states and its best network."""

    @property
    def batch_size(self) -> int:
        """Samples in a step, over all processes."""
        return self.params.train.resolved_batch_size

    @property
    def accelerator(self) -> Accelerator:
        return self.step.accelerator

    @property
    def device(self) -> torch.device:
        return self.processes.device

    @property
    def metric(self) -> str:
        """The metric that picks the best network; higher is better."""
        return f"val/{task_of(self.manifest).metric}"


def prepare_training(
    params: Params, manifest: Manifest, folder: Path, work: Path, processes: Processes | None = None
) -> Training:
    """Build the parts of the training of ``params`` on the shards in ``folder``, for `Trainer`.

    Raises:
        UserError: params, shards, the weights to start from or the device do not fit.
    """
    settings = params.train
    _check_task(params, manifest)
    processes = processes or Processes(choose_device(params.machine.device))
    amp = choose_precision(settings.amp, processes.device)
    set_arithmetic(amp, params.machine.deterministic)
    accelerator = Accelerator(
        mixed_precision=amp,
        cpu=processes.device.type == "cpu",
        kwargs_handlers=[
            # Batch norm's statistics are the same in every process.
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
        ],
    )
    torch.manual_seed(settings.seed)
    network = place(build_network(params, manifest), processes.device)
    _start_from_pretrained(network, params, manifest, processes)
    manifest.split("val")
    loader = processes.together(
        lambda: open_loader(params, manifest, folder, processes.device, processes.rank, processes.world_size)
    )
    model = accelerator.prepare_model(_compiled(network, params, processes))
    average = WeightAverage(network, settings.ema) if settings.ema else None
    state = TrainingState.begin(network, average, accelerator.scaler, processes.device)
    loss = task_of(manifest).loss(settings, manifest)
    mixing = build_mixing(settings.mix, manifest.num_classes) if settings.mix else None
    step = TrainStep(model, state, loss, accelerator, manifest, settings, mixing)
    part = evaluation_batch_size(settings.resolved_batch_size, processes.world_size, settings.accumulate)
    spec, trained = network_spec(params, manifest), augmented_size(loader.augment, manifest)
    if trained != spec.size:
        check_images(params, manifest, spec.model_copy(update={"size": trained}))
    part = as_many_pixels(part, trained, spec.size)
    validation = Validation(accelerator, folder, manifest, spec.size, loss, part, settings.calibrate)
    precise = _precise(params, accelerator, loader, manifest)
    return Training(params, manifest, spec, processes, amp, loader, state, step, validation, precise, work)


def _precise(
    params: Params, accelerator: Accelerator, loader: Loader, manifest: Manifest
) -> PreciseStatistics | None:
    """Return what recomputes batch norm's statistics for ``train.precise_bn``; says so where it takes fewer batches."""
    wanted = params.train.precise_bn
    if wanted == 0:
        return None
    precise = PreciseStatistics(accelerator, loader, manifest, wanted, params.train.accumulate)
    if precise.batches < wanted and accelerator.is_main_process:
        print(
            f"train.precise_bn: {precise.batches} batches instead of {wanted}: {PRECISE_SHARE:.0%} of an epoch's "
            f"{loader.steps_per_epoch}, so that it costs less than 5 % of the time"
        )
    return precise


def _check_task(params: Params, manifest: Manifest) -> None:
    """Refuse what the task of ``manifest`` cannot do."""
    settings, task = params.train, task_of(manifest)
    if settings.mix is not None and not task.mixes:
        raise UserError(
            f"train.mix: {manifest.dataset} is {task.name}; allowed for classification only: remove it"
        )
    if settings.calibrate and not task.calibrates:
        raise UserError(
            f"train.calibrate: {manifest.dataset} is {task.name}; allowed for classification only: remove it"
        )
    if settings.dice and not task.overlaps:
        raise UserError(
            f"train.dice: got {settings.dice}, but {manifest.dataset} is {task.name}, which has no masks; allowed: 0"
        )
    if settings.class_weight_power and not task.weighs:
        raise UserError(
            f"train.class_weight_power: got {settings.class_weight_power}, but {manifest.dataset} is {task.name}, "
            "whose classes have no weights; allowed: 0"
        )


def _start_from_pretrained(
    network: nn.Module, params: Params, manifest: Manifest, processes: Processes
) -> None:
    """Load the weights that ``train.pretrained`` names: the first process reads them, the others receive them."""
    folder = params.pretrained
    if folder is None:
        return
    fitted = processes.from_first(lambda: start_from(folder, network, params.model.head, manifest))
    network.load_state_dict(processes.tensors_from_first(network.state_dict))
    if processes.is_first and not fitted:
        print(f"{folder} is for another task or other classes: the head starts anew")


def _compiled(network: nn.Module, params: Params, processes: Processes) -> nn.Module:
    """Return ``network`` as it trains: with batch norm over all processes, and compiled where that is asked for."""
    if processes.world_size > 1:
        try:
            synchronise_batch_norm(network)
        except ValueError as error:
            raise UserError(
                f"model: {params.model.label} on {processes.world_size} processes: {error}"
            ) from None
    if not choose_compile(params.machine.compile, processes.device):
        return network
    gradients = sum(parameter.nbytes for parameter in network.parameters())
    torch._dynamo.config.optimize_ddp = gradients > SMALL_GRADIENTS
    alone = processes.world_size == 1 and params.train.accumulate == 1
    options: Any = params.model.compile_options(network, processes.device.type, graphs=alone)
    return cast(nn.Module, torch.compile(network, dynamic=False, options=options))
