"""``wavemix compare --costs``: rows in turns, the paper beside, taken up where it was left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli.parser import main
from pipeline.compare import costs
from pipeline.compare.costs import Cost, Setting
from pipeline.compare.costs_page import as_markdown
from pipeline.compare.row_costs import RECORD, measure_rows
from pipeline.core.errors import UserError
from pipeline.paper.rows import find_row

ROWS = ["mnist 8/10", "mnist ResNet-18"]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(costs, "TURN_SECONDS", 0.01)
    return Setting.choose("cpu", "off", "off", 2)


def test_rows_are_measured_and_taken_up_where_they_were_left(tmp_path: Path, setting: Setting) -> None:
    rows = [find_row(name) for name in ROWS]
    first = measure_rows(rows, setting, 1, tmp_path)
    assert [first[row.name].parameters for row in rows] == [row.parameters for row in rows]
    assert all(len(cost.training) == len(cost.inference) == 1 for cost in first.values())
    both = measure_rows(rows, setting, 2, tmp_path)
    for name, cost in both.items():
        assert cost.training[:1] == first[name].training
        assert len(cost.training) == 2
    assert set(json.loads((tmp_path / RECORD).read_text())["rows"]) == set(ROWS)
    page = (tmp_path / "costs.md").read_text()
    assert all(name in page for name in ROWS)
    with pytest.raises(UserError, match="name another --out"):
        measure_rows(rows, Setting.choose("cpu", "off", "off", 4), 1, tmp_path)


def test_a_row_that_cannot_run_is_named_and_left_out(
    tmp_path: Path, setting: Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(probe: Any, batch: int) -> Any:
        if probe.model.family == "resnet":
            raise torch.OutOfMemoryError("out of memory\nand more")
        return training(probe, batch)

    training = costs._training
    monkeypatch.setattr(costs, "_training", fail)
    found = measure_rows([find_row(name) for name in ROWS], setting, 1, tmp_path)
    assert list(found) == ROWS[:1]
    assert "mnist ResNet-18 is left out: out of memory" in capsys.readouterr().err
    with pytest.raises(UserError, match="none of the networks could be measured"):
        measure_rows([find_row(ROWS[1])], setting, 1, tmp_path / "other")


def test_the_order_of_the_paper_by_hand() -> None:
    """Table 1 prints 2.6 GB, 764 and 1,786 images/s for ResNet-18, and 4.7, 1,056 and 3,125 for 128/7."""
    rows = [find_row("imagenet64 ResNet-18"), find_row("imagenet64 128/7"), find_row("cifar10 32/7")]
    measured = {
        "imagenet64 ResNet-18": Cost(1, 1.0, 1.0, [90.0, 100.0, 110.0], [400.0]),
        "imagenet64 128/7": Cost(1, 1.0, 2.0, [120.0], [300.0]),
        "cifar10 32/7": Cost(1, 1.0, 0.1, [1.0], [1.0]),
    }
    page = as_markdown(rows, measured, {"device": "cpu"})
    assert "memory 1 of 1, training 1 of 1, inference 0 of 1" in page
    assert "100 (95 to 105)" in page
    assert "| 764 |" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare: no rows; name some of"),
        (["--table", "77"], "--table 77: no rows; allowed: 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (["cifar10 ResNet-19"], "did you mean 'cifar10 ResNet-18'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--costs", *arguments])
    assert ended.value.code not in (0, None)
    assert message in f"{ended.value.code} {capsys.readouterr().err}"


@pytest.mark.parametrize("turns", ["0", "-1", "x", "1.5"])
def test_turns_are_a_number(turns: str) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--costs", "--turns", turns])
