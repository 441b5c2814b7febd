"""The learning rate is a function of the step; durations become steps once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.params import Duration, Phase
from pipeline.profiling.optimizers import build_optimizer, set_learning_rate
from pipeline.train.phases import PhaseSteps, steps


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ({"epochs": 3}, 30),
        ({"epochs": 0.5}, 5),
        ({"epochs": 0.01}, 1),
        ({"steps": 7}, 7),
        ({"samples": 130}, 3),
    ],
)
def test_durations_become_steps(duration: dict[str, Any], expected: int) -> None:
    assert steps(Duration(**duration), steps_per_epoch=10, batch_size=64) == expected


def rates(phase: Phase, first: int = 100) -> list[float]:
    span = PhaseSteps.begin(phase, first, steps_per_epoch=10, batch_size=64)
    return [span.learning_rate(step) for step in range(span.first, span.last)]


def test_constant_is_constant_after_its_warmup() -> None:
    phase = Phase(optimizer="adamw", lr=0.4, steps=8, warmup=Duration(steps=4))
    assert rates(phase) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4])


@pytest.mark.parametrize(
    ("schedule", "oracle"),
    [
        ("cosine", lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)),
        (
            "linear",
            lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-30, total_iters=50),
        ),
    ],
)
def test_schedules_are_torchs(schedule: Any, oracle: Any) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = oracle(optimizer)
    theirs = []
    for _ in range(50):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(Phase(optimizer="sgd", lr=0.3, schedule=schedule, steps=50)) == pytest.approx(theirs)


def test_onecycle_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    course = rates(Phase(optimizer="adamw", lr=1.0, schedule="onecycle", steps=100))
    assert course[0] == pytest.approx(1 / 25)
    assert course.index(max(course)) == 30
    assert max(course) == pytest.approx(1.0)
    assert course[:31] == sorted(course[:31])
    assert course[30:] == sorted(course[30:], reverse=True)
    assert course[-1] < 2e-3


def test_the_papers_optimisers() -> None:
    model = nn.Conv2d(3, 4, 1)
    adamw = build_optimizer(Phase(optimizer="adamw", epochs=1), model, decay_all=True, head=())
    assert isinstance(adamw, torch.optim.AdamW)
    (group,) = adamw.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (
        1e-3,
        (0.9, 0.999),
        1e-8,
        0.01,
    )
    sgd = build_optimizer(Phase(optimizer="sgd", epochs=20), model, decay_all=True, head=())
    (group,) = sgd.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (1e-3, 0.9, 0.0)


def test_biases_and_norms_can_be_spared_from_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_optimizer(Phase(optimizer="adamw", epochs=1), model, decay_all=False, head=())
    decayed, spared = optimizer.param_groups
    assert [parameter.ndim for parameter in decayed["params"]] == [4]
    assert spared["weight_decay"] == 0
    assert len(spared["params"]) == 3


@pytest.mark.parametrize("decay_all", [True, False])
def test_all_but_the_head_learns_at_a_part_of_the_rate(decay_all: bool) -> None:
    model = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2)))
    phase = Phase(optimizer="adamw", lr=0.5, epochs=1, backbone_lr=0.1)
    optimizer = build_optimizer(phase, model, decay_all, ("head.",))
    rates: dict[int, float] = {}
    for rate in (0.5, 2.0):
        if rate != phase.lr:
            set_learning_rate(optimizer, rate)
        for group in optimizer.param_groups:
            rates |= {id(parameter): group["lr"] / rate for parameter in group["params"]}
        assert {name: rates[id(parameter)] for name, parameter in model.named_parameters()} == pytest.approx(
            {name: 1.0 if name.startswith("head.") else 0.1 for name, _ in model.named_parameters()}
        )
