"""The Dockerfile: its steps, run in a clean folder, since there may be no container engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

OF_THE_IMAGE = ("apt-get ", "pip ", "git config --system ")
"""Commands that would change this machine; what they bring is here already."""


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [
        (instruction, arguments)
        for line in lines
        if line and not line.startswith("#")
        for instruction, arguments in [line.split(" ", 1)]
    ]


def copied(target: Path) -> None:
    """Copy what `COPY . .` takes: the tracked files that .dockerignore leaves."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] != "#"]
    tracked = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in tracked.splitlines():
        if not any(fnmatch.fnmatch(name.split("/")[0], pattern) for pattern in ignored):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def test_it_has_about_a_dozen_lines_and_pins_nothing_of_this_machine() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert len(lines) <= 15
    assert steps()[0][0] == "FROM"
    assert steps()[-1][0] == "CMD"
    assert not re.search(r"index|https?://|/home/|/root", "\n".join(lines))


def test_data_runs_and_the_repository_stay_out_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    private = (line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line[0] == "/")
    assert {name for name in private if name not in ("dist", ".idea")} <= set(ignored)
    assert ".git" in ignored


@pytest.mark.slow
def test_its_steps_give_the_whole_pipeline_in_a_clean_folder(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    kept = (
        "PATH",
        "HOME",
        "UV_CACHE_DIR",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "PIP_INDEX_URL",
        "SSL_CERT_FILE",
    )
    environment = {name: os.environ[name] for name in kept if name in os.environ}

    def here(text: str) -> str:
        return text.replace("/opt/environment", str(tmp_path / "environment")).replace("/app", str(app))

    for instruction, arguments in steps():
        if instruction == "ENV":
            environment |= dict(pair.split("=", 1) for pair in here(arguments).split())
        elif instruction == "COPY":
            copied(app)
        elif instruction == "RUN":
            for command in here(arguments).split(" && "):
                if not command.startswith(OF_THE_IMAGE) and not command.startswith("rm "):
                    subprocess.run(command, shell=True, cwd=app, env=environment, check=True)
        elif instruction == "CMD":
            subprocess.run(json.loads(arguments), cwd=app, env=environment, check=True)
    assert (app / "reports/report.html").stat().st_size > 100_000
    assert not (app / ".venv").exists(), "the environment lies beside the checkout"
    listed = subprocess.check_output(
        ["uv", "pip", "list", "--format", "json", "--python", str(tmp_path / "environment/bin/python")],
        text=True,
        env=environment,
    )
    names = {package["name"] for package in json.loads(listed)}
    assert "mlflow" in names
    assert "pytest" not in names, "the development tools stay out"
