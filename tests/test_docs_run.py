"""README and docs, run: every block that can run here does, in a newcomer's clone; each other one has a reason."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests import ROOT
from tests.test_docs import blocks, merged

SKIPPED = {
    r"pip install uv": "changes this machine",
    r"git clone ADDRESS .*": "has no address",
    r"docker .*": "needs a container engine; tests/test_docker.py runs the steps",
    r"uv run pytest.*|scripts/check.*|\.ci/run.*|uv run pre-commit .*": "is what runs this",
    r"uv run wavemix compare --costs --table 1": "takes an hour on two cores",
    r"uv run wavemix push me/digits --licence mit": "needs an account on the hub",
    r"uv run dvc queue .*|uv run dvc exp run --queue .*": "trains three times; tests/test_docs.py reads the command",
}
"""Lines of bash blocks that are not run, and why."""
ALLOWED_TO_FAIL = {
    r"uv run wavemix search --target .*": "no trial of an epoch or two may reach it",
}
SHORT = {"train": {"phases": [{"optimizer": "adamw", "epochs": 1}]}}
"""What keeps the trainings short; the commands are those of the pages."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def lines(page: str) -> list[str]:
    """Return the commands of a page's bash blocks, without comments."""
    text = "\n".join(content for name, _, content in blocks("bash") if name == page)
    found = (re.sub(r"\s+# .*", "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in found if line]


def reason(line: str, among: dict[str, str]) -> str | None:
    return next((why for pattern, why in among.items() if re.fullmatch(pattern, line)), None)


class Clone:
    """A copy of the tracked files in a repository of its own, with its own environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in names.splitlines():
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.bash("git init -q && git add -A && git -c user.name=me -c user.email=me@here commit -qm all")
        self.original = self.params()
        self.edit({})

    def bash(self, command: str, may_fail: bool = False) -> str:
        done = subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=ENVIRONMENT, text=True, capture_output=True
        )
        said = f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0 or (may_fail and "Traceback" not in said), said
        return done.stdout

    def params(self) -> dict[str, Any]:
        values: dict[str, Any] = YAML(typ="safe").load((self.folder / "params.yaml").read_text())
        return values

    def edit(self, *changes: dict[str, Any]) -> None:
        """Write params.yaml as it came with ``changes``, and short trainings."""
        values = self.original
        for change in (*changes, SHORT):
            values = merged(values, change)
        text = io.StringIO()
        YAML(typ="safe").dump(values, text)
        (self.folder / "params.yaml").write_text(text.getvalue())

    def run_page(self, page: str) -> None:
        for line in lines(page):
            if reason(line, SKIPPED) is None and "mlflow models serve" not in line:
                self.bash(line, may_fail=reason(line, ALLOWED_TO_FAIL) is not None)

    @contextmanager
    def served(self, command: str, port: int) -> Iterator[None]:
        """Run a server while the block runs, from when it answers."""
        server = subprocess.Popen(["bash", "-ec", f"exec {command}"], cwd=self.folder, env=ENVIRONMENT)
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2)
                    break
                except OSError:
                    assert server.poll() is None, "the server ended"
                    time.sleep(1)
            yield
        finally:
            server.terminate()
            server.wait(30)


def python_blocks(page: str) -> list[str]:
    return [content for name, _, content in blocks("python") if name == page]


def yaml_blocks(page: str) -> list[dict[str, Any]]:
    return [YAML(typ="safe").load(content) for name, _, content in blocks("yaml") if name == page]


def write_images(folder: Path, own: str) -> None:
    """Raw files as the README's own datasets name them."""
    random = np.random.default_rng(0)

    def write(name: str, pixels: np.ndarray[Any, Any]) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)

    for split in ("train", "val"):
        for i in range(12):
            pixels = random.integers(0, 256, (90, 120, 3)).astype(np.uint8)
            if own == "flowers":
                write(f"data/raw/flowers/{split}/{('rose', 'tulip')[i % 2]}/{i}.jpg", pixels)
            else:
                write(f"data/raw/streets/images/{split}/{i}.jpg", pixels)
                write(f"data/raw/streets/masks/{split}/{i}.png", pixels[..., 0] % 3)


def test_every_line_that_is_not_run_is_there_and_has_a_reason() -> None:
    pages = {name for name, _, _ in blocks("bash")}
    assert pages == {"README.md", "CONTRIBUTING.md", "experiments.md", "install.md", "serve.md"}
    everything = [line for page in pages for line in lines(page)]
    for pattern in [*SKIPPED, *ALLOWED_TO_FAIL]:
        assert any(re.fullmatch(pattern, line) for line in everything), f"{pattern} fits no line any more"
    assert sum(reason(line, SKIPPED) is None for line in everything) >= 18


@pytest.mark.slow
def test_everything_runs_in_a_newcomers_clone(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    clone.run_page("README.md")
    for block in python_blocks("README.md"):
        (tmp_path / "clone/block.py").write_text(block)
        clone.bash("uv run python block.py")
    clone.run_page("install.md")
    clone.run_page("serve.md")
    (serve,) = [line for line in lines("serve.md") if "mlflow models serve" in line]
    store = next(line for line in lines("serve.md") if line.startswith("export "))
    (request,) = python_blocks("serve.md")
    (tmp_path / "clone/block.py").write_text(request)
    with clone.served(f"env {store.removeprefix('export ')} {serve}", 5001):
        assert "probabilit" in clone.bash("uv run python block.py")
    folds, compare, search = yaml_blocks("experiments.md")
    clone.edit(folds)
    clone.bash("uv run dvc repro")
    compare["compare"]["minutes"] = 0.05
    search["search"]["trials"] = 20
    clone.edit(compare, search)
    clone.run_page("experiments.md")


@pytest.mark.slow
def test_own_data_is_prepared_and_trained_as_the_readme_says(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    for block in yaml_blocks("README.md"):
        write_images(clone.folder, block["data"])
        clone.edit(block, {"train": {"batch_size": 4}})
        clone.bash("uv run dvc repro")
        assert (clone.folder / "reports/report.html").exists()
