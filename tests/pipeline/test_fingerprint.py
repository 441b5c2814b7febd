"""What `prepare` depends on in place of the raw files and of the readers."""

from __future__ import annotations

import ast
import shutil
import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.datasets import READERS
from pipeline.fingerprint import reader_digest, source_digest

ROOT = Path(__file__).parents[2]
SHARED = {"files", "listing"}
"""What every reader stands on."""


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the readers' folder whose files may be edited; `source_digest` reads it."""
    folder = tmp_path / "datasets"
    shutil.copytree(ROOT / "pipeline/datasets", folder)
    for path in folder.glob("*.py"):
        name = "pipeline.datasets" + ("" if path.stem == "__init__" else f".{path.stem}")
        monkeypatch.setattr(import_module(name), "__file__", str(path))
    return folder


def digests() -> dict[str, str]:
    return {name: reader_digest(name) for name in READERS}


def changed_by_an_edit_of(path: Path) -> set[str]:
    before = digests()
    path.write_text(path.read_text() + "\n# edited\n")
    return {name for name, digest in digests().items() if digest != before[name]}


def test_an_edit_of_a_reader_changes_its_datasets_and_no_others(edited: Path) -> None:
    assert changed_by_an_edit_of(edited / "cifar.py") == {"cifar"}
    assert changed_by_an_edit_of(edited / "idx.py") == {"mnist", "emnist"}
    assert changed_by_an_edit_of(edited / "image_folder.py") == {"image_folder"}


def test_an_edit_of_what_readers_share_changes_those_that_use_it(edited: Path) -> None:
    arrays = {"cifar", "emnist", "imagenet", "imagenet64", "mnist", "places365", "stl10", "svhn"}
    assert changed_by_an_edit_of(edited / "arrays.py") == arrays
    for name in SHARED:
        assert changed_by_an_edit_of(edited / f"{name}.py") == set(READERS)


def test_how_files_are_got_and_the_list_of_readers_change_none(edited: Path) -> None:
    for name in ("downloads", "embedded", "__init__"):
        assert changed_by_an_edit_of(edited / f"{name}.py") == set()


def test_a_digest_follows_imports_of_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pipeline_toy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "start.py").write_text(
        "def f():\n    from pipeline.datasets.cifar import read\n    return read\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    start = source_digest("pipeline_toy.start")
    monkeypatch.setattr(import_module("pipeline.datasets.arrays"), "__file__", str(package / "__init__.py"))
    assert source_digest("pipeline_toy.start") != start
    del sys.modules["pipeline_toy.start"], sys.modules["pipeline_toy"]


def test_prepare_depends_on_the_modules_that_it_imports_for_its_result() -> None:
    """The stage names every module that `pipeline.prepare` imports, but those that change no byte of a shard."""
    stage = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["prepare"]["do"]
    named = {dep for dep in stage["deps"] if dep.endswith(".py")}
    changes_nothing = {
        "engines",
        "errors",
        "fingerprint",
        "manifest",
        "params",
        "paths",
        "storage",
        "workplace",
    }
    imported = {"stages/prepare.py", "pipeline/prepare.py"}
    todo = ["prepare"]
    while todo:
        tree = ast.parse((ROOT / f"pipeline/{todo.pop()}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pipeline."):
                _, module, *below = str(node.module).split(".")
                path = f"pipeline/{module}.py"
                if module not in {*changes_nothing, "datasets"} and path not in imported and not below:
                    imported.add(path)
                    todo.append(module)
    assert named == imported
