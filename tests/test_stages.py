"""Each stage by itself, before those that it needs."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from tests import ROOT


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "benchmark", "report"])
def test_says_what_is_missing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *(["digits"] if name == "prepare" else [])])
    with pytest.raises(UserError, match="; run `uv run dvc repro`"):
        importlib.import_module(f"stages.{name}").main()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["params.yaml"]


@pytest.mark.parametrize("module", ["stages.train", "stages.benchmark", "pipeline.cli.start"])
def test_threads_that_wait_sleep(module: str) -> None:
    """It must be said before torch is imported, and users may say otherwise."""
    watched = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print(os.environ.get('OMP_WAIT_POLICY')); sys.meta_path.remove(self)\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"import {module}\n"
        "import torch\n"
    )
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {"OMP_WAIT_POLICY": given} if given else {}
        said = subprocess.check_output([sys.executable, "-c", watched], env=environment, cwd=ROOT, text=True)
        assert said.split() == [expected]
