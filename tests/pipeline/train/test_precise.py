"""``train.precise_bn``: the network that is validated and kept has recomputed statistics, and the training has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints.trained import load_trained
from pipeline.core.errors import UserError
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.models import parse_model
from pipeline.models.batch_norm import recompute_statistics
from pipeline.models.inputs import normalise
from pipeline.params import Params
from pipeline.tracking.base import NullTracking
from pipeline.train.trainer import Trainer
from pipeline.train.training import Training, prepare_training
from tests.pipeline.interrupted import CutOff, Interrupted
from tests.pipeline.train.launched import CURVES, launch
from tests.pipeline.train.test_processes import rows, without_dropout


def prepared(params: Params, work: str) -> Training:
    folder = shards_folder(params.data, params.size)
    return prepare_training(params, read_manifest(folder), folder, Path(work))


def finished(params: Params, work: str) -> Training:
    training = prepared(params, work)
    Trainer(training, NullTracking()).run()
    return training


def kept(work: str) -> dict[str, torch.Tensor]:
    return dict(load_trained(Path(work) / "best").network.state_dict())


@pytest.mark.parametrize("options", [{}, {"ema": 0.5}, {"augment": [{"HorizontalFlip": {}}]}])
def test_it_changes_the_kept_statistics_and_nothing_in_the_training(
    toy: Callable[..., Params], options: dict[str, Any]
) -> None:
    phases = [{"optimizer": "adamw", "lr": 0.01, "epochs": 1}]
    plain = finished(toy(phases=phases, **options), "plain")
    precise = finished(toy(phases=phases, precise_bn=1, **options), "precise")
    assert plain.state.digest() == precise.state.digest()
    network = load_trained(Path("precise/best")).network
    manifest, batch = precise.manifest, next(precise.loader.epoch(0))
    expected = load_trained(Path("plain/best")).network
    recompute_statistics(expected, [normalise(batch.image, manifest.mean, manifest.std)])
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert load_trained(Path("precise/best")).trained.precise_bn == 1
    changed = [
        name for name, tensor in kept("plain").items() if not torch.equal(tensor, kept("precise")[name])
    ]
    assert changed
    assert all(name.endswith(("running_mean", "running_var")) for name in changed)


@pytest.mark.parametrize("cache", ["host", "stream"])
def test_a_resumed_training_keeps_the_same_network(toy: Callable[..., Params], cache: str) -> None:
    params = toy(precise_bn=2, phases=[{"optimizer": "adamw", "lr": 0.01, "epochs": 3}])
    machine = params.machine.model_copy(update={"cache": cache, "checkpoint_seconds": 0.0})
    params = params.model_copy(update={"machine": machine})
    finished(params, "whole")
    cut = CutOff("before_step", lambda state: state.progress.step == 6)
    trainer = Trainer(prepared(params, "cut"), NullTracking(), [cut])
    with pytest.raises(Interrupted):
        trainer.run()
    finished(params, "cut")
    assert all(torch.equal(tensor, kept("cut")[name]) for name, tensor in kept("whole").items())


def test_it_takes_a_tenth_of_an_epoch_at_most_and_says_so(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    training = prepared(toy(precise_bn=40, batch_size=2), "capped")
    steps = training.loader.steps_per_epoch
    assert training.precise is not None
    assert training.precise.batches == steps // 10 >= 2
    assert f"train.precise_bn: {steps // 10} batches instead of 40" in capsys.readouterr().out


def test_a_network_without_batch_norm_is_refused(toy: Callable[..., Params]) -> None:
    model = parse_model({"family": "mlp_mixer", "dim": 8, "depth": 1, "patch": 4})
    params = toy(precise_bn=5).model_copy(update={"model": model})
    with pytest.raises(
        UserError, match=r"train.precise_bn: got 5, but .* has no batch norm; allowed for it: 0"
    ):
        prepared(params, "without")


def test_two_processes_recompute_what_one_does(toy: Callable[..., Params]) -> None:
    params = without_dropout(toy(precise_bn=1, phases=[{"optimizer": "sgd", "lr": 0.05, "epochs": 2}]))
    process = launch(params)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    two = {
        name: tensor.clone()
        for name, tensor in load_trained(Path("checkpoints/best")).network.state_dict().items()
    }
    two_rows = rows()
    CURVES.unlink()
    finished(params, "one")
    for name, tensor in kept("one").items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
    assert len(two_rows) == 2
