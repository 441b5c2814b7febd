"""The temperature of a classifier, against scipy's minimum, and on its way from val to a prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.cli.parser import main
from pipeline.core.errors import UserError
from pipeline.evaluate.evaluation import evaluate
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.tasks.calibration import TemperatureFit, best_temperature, loss_counts, temperature_of
from pipeline.tasks.classification_metrics import ClassificationMetrics
from pipeline.train.experiment import train_once

BEST = Path("checkpoints/best")


def overconfident(factor: float, samples: int = 4000) -> tuple[Tensor, Tensor]:
    """Logits that are ``factor`` times too large, and classes drawn from the honest ones."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(samples, 5, generator=generator)
    target = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return factor * logits, target


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.7])
def test_it_is_the_minimum_that_scipy_finds(factor: float) -> None:
    logits, target = overconfident(factor)
    oracle = minimize_scalar(
        lambda exponent: float(cross_entropy(logits.double() / 2**exponent, target)),
        bounds=(-3, 5),
        method="bounded",
    )
    found = best_temperature(loss_counts(logits, target).tolist())
    assert found == pytest.approx(2**oracle.x, rel=0.003)
    assert found == pytest.approx(factor, rel=0.1)


def test_it_makes_confidence_honest() -> None:
    logits, target = overconfident(4.0)
    before, after = ClassificationMetrics(5), ClassificationMetrics(5)
    before.update(logits, target)
    fit = TemperatureFit()
    fit.update(logits, target)
    (temperature,) = fit.decision()["temperature"]
    after.update(logits / temperature, target)
    assert before.compute()["ece"] > 0.2
    assert after.compute()["ece"] < 0.03
    assert before.compute()["top1"] == after.compute()["top1"]
    assert before.decision() == {}


def test_it_does_not_depend_on_how_the_samples_are_shared_out() -> None:
    logits, target = overconfident(2.0, 1000)
    whole, parts = TemperatureFit(), [TemperatureFit() for _ in range(3)]
    whole.update(logits, target)
    for part, fit in zip(torch.arange(1000).tensor_split(3), parts, strict=True):
        fit.update(logits[part], target[part])
    total = sum(fit._counts for fit in parts)
    parts[0].reduce(lambda _: total)  # type: ignore[arg-type,return-value]
    assert parts[0].decision() == whole.decision()


def test_logits_that_are_no_numbers_or_endless_end_nothing() -> None:
    logits = torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0], [1e30, -1e30]])
    temperature = best_temperature(loss_counts(logits, torch.tensor([0, 1, 1])).tolist())
    assert 0.125 <= temperature <= 32
    assert best_temperature([0] * 65) == 1.0


def test_it_is_fitted_kept_applied_and_measured(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    params = toy(calibrate=True)
    train_once(params, BEST, Path("reports/curves.csv"))
    described = json.loads((BEST / "training.json").read_text())
    (temperature,) = described["decision"]["temperature"]
    Path("params.yaml").write_text(params.model_dump_json())
    Path("a.png").write_bytes(encode_png(np.full((8, 12, 3), 90, np.uint8)))
    probabilities = []
    capsys.readouterr()
    for value in (temperature, 1.0):
        described["decision"]["temperature"] = [value]
        (BEST / "training.json").write_text(json.dumps(described))
        main(["predict", "a.png", "--json", "--top", "all", "--device", "cpu"])
        record = json.loads(capsys.readouterr().out)
        probabilities.append({one["class"]: one["probability"] for one in record["classes"]})
    sharpened = {name: value ** (1 / temperature) for name, value in probabilities[1].items()}
    total = sum(sharpened.values())
    assert probabilities[0] == pytest.approx(
        {name: value / total for name, value in sharpened.items()}, abs=1e-3
    )
    _, result = evaluate(params, BEST, Path("reports"))
    assert result.values["ece_calibrated"] == pytest.approx(result.values["ece"]), "at temperature 1"


def test_it_is_off_by_default(toy: Callable[..., Params]) -> None:
    trained = train_once(toy(), BEST, Path("reports/curves.csv"))
    assert trained.decision == {}
    _, result = evaluate(toy(), BEST, Path("reports"))
    assert "ece_calibrated" not in result.values


@pytest.mark.parametrize("task", ["segmentation", "multilabel"])
def test_other_tasks_have_none(toy: Callable[..., Params], task: str) -> None:
    with pytest.raises(UserError, match=f"train.calibrate: toy is {task}; allowed for classification only"):
        train_once(toy(task, calibrate=True), BEST, Path("reports/curves.csv"))


@pytest.mark.parametrize("values", [[], [0.0], [-1.0], [float("inf")], [1.0, 2.0]])
def test_a_temperature_that_is_none_is_refused(values: list[float]) -> None:
    with pytest.raises(UserError, match="one number above 0"):
        temperature_of({"temperature": values})
