"""The command by itself: its version, its completion, and what it says of the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.cli import doctor
from pipeline.cli.parser import DISTRIBUTION, main
from pipeline.params import Params


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wavemix {version(DISTRIBUTION)}\n"


def test_bash_completes_the_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["completion", "bash"])
    script = tmp_path / "completion.bash"
    script.write_text(
        capsys.readouterr().out
        + "COMP_WORDS=(wavemix pred); COMP_CWORD=1; _shtab_wavemix wavemix pred wavemix; echo ${COMPREPLY[@]}\n"
    )
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "predict"


def test_doctor_tells_what_auto_chooses_and_names_each_problem_in_a_line(
    experiment: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = experiment("classification")
    Path("params.yaml").write_text(params.model_dump_json())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:SECRET@127.0.0.1:9")
    monkeypatch.setattr(doctor, "LOW_DISK", float("inf"))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    shown = capsys.readouterr()
    for heading in (
        "torch",
        "cpu",
        "memory",
        "machine.device",
        "train.amp",
        "machine.compile",
        "machine.cache",
    ):
        assert f"\n{heading} " in shown.out
    cache = next(line for line in shown.out.splitlines() if line.startswith("machine.cache"))
    assert "auto: host (" in cache
    problems = shown.err.splitlines()
    assert [line.partition(":")[0] for line in problems] == ["disk", "repository", "mlflow"]
    assert "git init" in problems[1]
    assert "is not responding" in problems[2]
    assert "SECRET" not in shown.out + shown.err
