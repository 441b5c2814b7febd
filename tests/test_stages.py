"""Each stage by itself, before those that it needs."""

from __future__ import annotations

import importlib
import shutil
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
