"""A family that the project does not have: one new file, and one line that imports it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

import pipeline.models
from pipeline.checkpoints.trained import load_trained
from pipeline.models import FAMILIES
from pipeline.params import Params, parse_params
from pipeline.train.experiment import train

FILE = '''
from typing import Literal

from torch import nn

from pipeline.models.base import Family, NetworkSpec, Width, register


@register
class ToyFamily(Family):
    """A linear classifier of the mean colours."""

    per_image = True
    family: Literal["toy"] = "toy"
    width: Width = 8

    @property
    def label(self) -> str:
        return f"Toy-{self.width}"

    @property
    def head(self) -> tuple[str, ...]:
        return ("3.",)

    def build(self, spec: NetworkSpec) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(spec.channels, self.width, 3, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.width, spec.outputs),
        )

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        return {"convolution": network[0]}
'''


@pytest.fixture
def _toy_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put ``toy.py`` beside the other families, then run the line that is to stand beside their imports."""
    folder = tmp_path / "families"
    folder.mkdir()
    (folder / "toy.py").write_text(FILE)
    monkeypatch.setattr(pipeline.models, "__path__", [*pipeline.models.__path__, str(folder)])
    monkeypatch.setitem(FAMILIES, "toy", FAMILIES["resnet"])  # so that it is forgotten after the test
    import_module("pipeline.models.toy")


@pytest.mark.usefixtures("_toy_family")
def test_it_trains_and_is_loaded_again(toy: Callable[..., Params]) -> None:
    phases = [{"optimizer": "adamw", "lr": 0.03, "epochs": 3}]
    params = toy(phases=phases)
    values = params.model_dump(mode="json", exclude_none=True) | {"model": {"family": "toy", "width": 4}}
    trained = train(parse_params(values), Path("best"), Path("curves.csv"))
    assert trained.value > 0.85
    loaded = load_trained(Path("best"))
    assert loaded.model.label == "Toy-4"
    assert loaded.for_inference()(torch.zeros(1, 3, *trained.size)).shape == (1, 3)
