"""One step: gradients unscaled once, an average equal to torch's, and weights that must be finite."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.checkpoints.states import StateFolder
from pipeline.core.device import set_arithmetic
from pipeline.core.errors import UserError
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.params import Params
from pipeline.train.average import WeightAverage
from pipeline.train.experiment import train
from pipeline.train.observers.base import Observer
from pipeline.train.state import Progress, TrainingState
from pipeline.train.training import Training, prepare_training


def prepared(params: Params) -> Training:
    folder = shards_folder(params.data, params.size)
    return prepare_training(params, read_manifest(folder), folder, Path("work"))


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_scaled_gradients_are_clipped_alike_in_every_phase(toy: Callable[..., Params]) -> None:
    """A step of SGD at a learning rate of 1 is as long as its gradient. Unscaled twice, it would be shorter."""
    limit = 1e-3
    training = prepared(toy(clip_grad_norm=limit))
    state, network = training.state, training.state.network
    state.scaler = training.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    lengths = []
    for _ in range(3):
        state.optimizer = torch.optim.SGD(network.parameters())
        before = flat(network)
        training.step(next(training.loader.epoch(0)), 1.0)
        lengths.append(float((flat(network) - before).norm()))
    assert lengths == pytest.approx([limit] * 3, rel=1e-3)


def test_the_average_is_torchs() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    ours = WeightAverage(network, 0.8)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)  # type: ignore[no-untyped-call]
    for _ in range(4):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(2, 3, 4, 4))
        ours.update_parameters(network)
        theirs.update_parameters(network)
    averaged = ours.state_dict()
    assert averaged.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(averaged[name], tensor), name
    assert averaged["module.1.num_batches_tracked"] == 4
    assert not torch.equal(averaged["module.0.weight"], network.state_dict()["0.weight"])


class Poison(Observer):
    """Spoils weights after one step, as an update that overflows does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, state: TrainingState) -> None:
        if state.progress.step == self.step:
            with torch.no_grad():
                next(state.network.parameters()).fill_(math.nan)


def test_weights_that_went_bad_in_an_epochs_last_step_are_neither_saved_nor_kept(
    toy: Callable[..., Params],
) -> None:
    with pytest.raises(
        UserError, match=r"weights were not finite after step 7 .*state is kept in .*lower train\.phases' lr"
    ):
        train(toy(), Path("checkpoints/best"), Path("reports/curves.csv"), [Poison(8)])
    (folder,) = Path(".work").glob("train/*/states")
    saved = StateFolder(folder).latest()
    assert saved is not None
    assert saved[1]["step"] == 4
    assert all(tensor.isfinite().all() for tensor in saved[0]["network"].values())


def test_a_validation_loss_that_is_not_finite_is_never_better() -> None:
    progress = Progress()
    assert progress.judge(0.5, 1.0)
    assert not progress.judge(0.9, math.nan)
    assert not progress.judge(0.9, math.inf)
    assert progress.judge(0.5, 0.9)
    assert (progress.best, progress.best_loss) == (0.5, 0.9)


def test_a_problem_is_told_from_a_healthy_state(toy: Callable[..., Params]) -> None:
    state = prepared(toy(ema=0.9)).state
    assert state.problem() is None
    assert state.average is not None
    healthy = copy.deepcopy(state.digest())
    next(state.average.module.buffers()).fill_(math.inf)
    assert state.problem() is not None
    assert state.digest() != healthy
    state.first_bad_step.fill_(3)
    assert state.loss_problem() == state.problem() == "the loss was not finite at step 3"


def test_validation_takes_as_many_images_at_once_as_a_training_step(toy: Callable[..., Params]) -> None:
    assert prepared(toy(batch_size=16, accumulate=4)).validation.batch_size == 4
    assert prepared(toy(batch_size=2, accumulate=4)).validation.batch_size == 1


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_every_operation_of_a_step_has_a_deterministic_kernel(toy: Callable[..., Params], task: str) -> None:
    params = toy(task, ema=0.9, clip_grad_norm=1.0)
    machine = params.machine.model_copy(update={"deterministic": True})
    try:
        training = prepared(params.model_copy(update={"machine": machine}))
        assert torch.are_deterministic_algorithms_enabled()
        training.state.optimizer = torch.optim.AdamW(training.state.network.parameters())
        training.step(next(training.loader.epoch(0)), 1e-3)
    finally:
        set_arithmetic("no", deterministic=False)
    assert training.state.problem() is None
