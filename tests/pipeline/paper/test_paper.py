"""The paper's rows: every one can be trained, and our runs stand beside the right ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.paper.apply import use
from pipeline.paper.compare import compare, setting_differences
from pipeline.paper.rows import figure, find_row, model_params
from pipeline.params import Params, load_params, parse_params
from pipeline.tracking.names import flatten
from pipeline.tracking.store import Run
from wavemix import PaperRow, paper_rows

PARAMS = """\
# The experiment.
data: digits # what to train on

model: # the size
  dim: 16
  depth: 5
  ff: null # null = dim
  dropout: 0.1   # the authors have 0.5
train:
  batch_size: 64
  phases: # as one likes
    - {optimizer: adamw, lr: 1e-3, epochs: 3}
datasets:
  digits: {reader: image_folder, sizes: [[8, 8]]}
  cifar10: # as folders
    reader: image_folder
    sizes: [[64, 64]] # height, width
# the end
"""


def keys(params: Params) -> dict[str, Any]:
    """The keys of the network."""
    values: dict[str, Any] = params.model.model_dump()
    return values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path / "params.yaml"


@pytest.mark.parametrize("name", paper_rows())
def test_every_row_is_a_model_that_params_allow_and_has_a_figure(name: str) -> None:
    row = find_row(name)
    model = {**model_params(row), "dropout": 0.5}
    params = {
        "data": "x",
        "datasets": {"x": {"reader": "r", "sizes": [[8, 8]]}},
        "model": model,
        "train": {"phases": [{"optimizer": "sgd", "epochs": 1}]},
    }
    assert isinstance(row, PaperRow)
    assert keys(parse_params(params))["dim"] == row.config.dim
    assert 0 < figure(row)[1] <= 100


def test_use_writes_the_row_and_keeps_everything_else(path: Path) -> None:
    changes = use(find_row("cifar10 32/7 bilinear"), path)
    params = load_params(path)
    assert params.data == "cifar10"
    model = keys(params)
    assert (model["dim"], model["depth"], model["expansion"]) == (32, 7, "bilinear")
    assert params.size == (32, 32)
    assert model["dropout"] == 0.1
    text = path.read_text()
    for comment in (
        "# The experiment.",
        "# what to train on",
        "# null = dim",
        "# the authors have 0.5",
        "# the end",
    ):
        assert comment in text
    assert "ff: null" in text
    assert "model.dim: 16 -> 32" in changes
    assert use(find_row("cifar10 32/7 bilinear"), path) == []
    assert path.read_text() == text


def test_use_takes_back_what_another_row_set(path: Path) -> None:
    use(find_row("cifar10 32/7 bilinear"), path)
    use(find_row("cifar10 144/7 levels2"), path)
    model = keys(load_params(path))
    assert (model["dim"], model["expansion"], model["levels"]) == (144, "deconvolution", 2)
    use(find_row("cifar10 64/6"), path, recipe=True)
    params = load_params(path)
    assert keys(params)["levels"] == 1
    assert [phase.optimizer for phase in params.train.phases] == ["adamw", "sgd"]
    assert params.train.phases[1].epochs == 20


def test_use_of_a_rival_and_back(path: Path) -> None:
    changes = use(find_row("cifar10 ResNet-18"), path)
    assert keys(load_params(path)) == {"family": "resnet", "depth": 18, "stem": "cifar"}
    assert "model.dim: removed, no key of resnet" in changes
    assert "# what to train on" in path.read_text()
    use(find_row("cifar10 64/6"), path)
    assert load_params(path).model.label == "WaveMix-Lite 64/6"


def test_use_of_a_row_whose_data_is_not_there_changes_nothing(path: Path) -> None:
    with pytest.raises(UserError, match="no data set 'imagenet64' under datasets:"):
        use(find_row("imagenet64 128/7"), path)
    assert path.read_text() == PARAMS


def run_of(row_name: str, top1: float, **params: str) -> Run:
    row = find_row(row_name)
    values = flatten(
        {"model": {**model_params(row), "dropout": 0.0}, "train": {"phases": [{"optimizer": "adamw"}]}}
    )
    return Run(
        id=f"{row_name} {top1}",
        name="",
        data=row.dataset,
        status="FINISHED",
        started=datetime.now(UTC),
        params={**values, "dataset.sizes": "[[32, 32]]", **params},
        metrics={"best_val/top1": top1, "epoch": 18.0},
        tags={},
    )


def test_the_best_run_stands_beside_its_own_row_and_no_other() -> None:
    runs = [run_of("cifar10 32/7", 0.5), run_of("cifar10 32/7", 0.85), run_of("cifar10 64/6", 0.9)]
    found = {entry.row.name: entry for entry in compare(paper_rows().values(), runs)}
    assert set(found) == {"cifar10 32/7", "cifar10 64/6"}
    assert found["cifar10 32/7"].ours == pytest.approx(85)
    assert found["cifar10 32/7"].difference == pytest.approx(85 - 84.67)


def test_what_differs_from_the_papers_setting_is_said() -> None:
    row = find_row("cifar10 32/7")
    run = run_of("cifar10 32/7", 0.5, **{"train.phases.0.schedule": "onecycle", "train.phases.0.lr": "0.01"})
    assert setting_differences(row, run) == [
        "optimiser adamw, not adamw then sgd",
        "onecycle learning rate up to 0.01",
        "18 epochs, at most 150 there",
        "val also picked the checkpoint",
    ]
    assert "64x64 images, not 32x32" in setting_differences(
        row, run_of("cifar10 32/7", 0.5, **{"dataset.sizes": "[[64, 64], [32, 32]]"})
    )
    assert "started from trained weights" in setting_differences(
        row, run_of("cifar10 32/7", 0.5, **{"train.pretrained": "start"})
    )
