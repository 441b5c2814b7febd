"""The GPU benchmark: what it runs, in which order, what it keeps; and that it needs no more than it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import Record, main, run
from benchmarks.gpu_checks import checks, relative_error
from benchmarks.gpu_setup import QUICK, Check, Row, Setup
from pipeline.core.errors import UserError
from tests import ROOT

WHERE = {"device": "a"}
HIDDEN = """
import sys
sys.modules.update(dict.fromkeys(["dvc", "mlflow", "albumentations"]))  # an import of them fails
from benchmarks.gpu import main
words = ["Haar", "resumed training, deterministic", "streaming"]
sys.exit(main(["--device", "cpu", "--quick", "--minutes", "9", "--out", sys.argv[1], "--only", *words]))
"""


class Calls:
    """Checks that write down when they are run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def check(self, name: str, seconds: float = 0, error: Exception | None = None) -> Check:
        def answer() -> Row:
            self.names.append(name)
            if error is not None:
                raise error
            return Row(f"{name}!")

        return Check(name, seconds, answer)


def test_runs_what_fits_in_order_and_resumes_with_the_rest(tmp_path: Path) -> None:
    calls, out = Calls(), tmp_path / "gpu.json"
    checks = [calls.check("a"), calls.check("b", seconds=100), calls.check("c")]
    assert run(checks, Record(out, WHERE), 50) == ["b"]
    assert calls.names == ["a", "c"]
    record = Record(out, WHERE)
    assert run(checks, record, 200) == []
    assert calls.names == ["a", "c", "b"]
    assert record.rows == {name: Row(f"{name}!") for name in "acb"}


def test_a_check_that_fails_is_a_row_and_is_tried_again(tmp_path: Path) -> None:
    calls, out = Calls(), tmp_path / "gpu.json"
    record = Record(out, WHERE)
    run([calls.check("a", error=RuntimeError("out of memory\nmore")), calls.check("b")], record, 50)
    assert record.rows["a"] == Row("RuntimeError: out of memory", passed=False)
    assert "| a | RuntimeError: out of memory |  | NO |" in record.markdown()
    again = Record(out, WHERE)
    run([calls.check("a"), calls.check("b")], again, 50)
    assert calls.names == ["a", "b", "a"]
    assert again.rows["a"].passed


def test_a_record_of_another_device_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    Record(out, WHERE).add("a", Row("1"))
    with pytest.raises(UserError, match="name another file"):
        Record(out, {"device": "b"})
    assert Record(out, WHERE).done("a")


def test_an_error_is_relative_to_what_is_expected() -> None:
    assert relative_error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])) == pytest.approx(0.1)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    setup = Setup(torch.device("cpu"), QUICK, tmp_path)
    (check,) = (check for check in checks(setup) if check.name.startswith("two processes"))
    assert check.run().passed


def test_time_is_that_of_one_step(tmp_path: Path) -> None:
    steps: list[int] = []
    seconds = Setup(torch.device("cpu"), QUICK, tmp_path).seconds(lambda: steps.append(sum(range(20_000))))
    assert len(steps) == 3 + 20
    assert 1e-6 < seconds < 0.1


def test_prints_one_table_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    words = ["block", "loss and gradients, ", "ceilings", "memory", "eager"]
    arguments = ["--device", "cpu", "--quick", "--minutes", "0.3", "--out", str(out), "--only", *words]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| check | measured | against | passed |"
    rows = [line for line in lines[2:] if line.startswith("|")]
    assert rows
    assert all(line.endswith("| yes |") for line in rows)
    assert len(rows) == len(json.loads(out.read_text())["rows"])


def test_trains_without_dvc_mlflow_and_albumentations(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-c", HIDDEN, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| resumed training, deterministic | repeated equal, resumed equal |" in done.stdout
    assert "| loader, streaming |" in done.stdout
