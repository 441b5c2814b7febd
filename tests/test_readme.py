"""What the README shows works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data.raw.fingerprint import fingerprint, fingerprint_file, write_fingerprint
from pipeline.fingerprint.raw_files import acquire
from pipeline.params import load_params
from pipeline.prepare.preparation import prepare
from tests import ROOT


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_stock_webdataset_reads_the_shards_with_the_snippet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (snippet,) = [block for block in blocks("python") if "import webdataset" in block]
    params = load_params(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    fingerprinted = acquire("digits", params.named("digits"), params.root("digits"))
    write_fingerprint(fingerprint("digits", fingerprinted), fingerprint_file("digits"))
    prepare("digits", params)
    # -I: neither this project nor the working folder is on the path.
    output = subprocess.check_output([sys.executable, "-I", "-c", snippet], text=True, cwd=tmp_path)
    lines = output.splitlines()
    assert len(lines) == 1257
    assert re.fullmatch(r"\d{19} \(8, 8, 1\) \d", lines[0])
