"""What `prepare` depends on in place of the raw files and of the readers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core import source_code
from pipeline.data.readers import READERS, reader_digest
from tests import ROOT

SHARED = {"raw/blobs", "raw/listing"}
"""What every reader stands on."""


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data's packages whose files may be edited; `source_digest` reads it."""
    shutil.copytree(
        ROOT / "pipeline", tmp_path / "code/pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(source_code, "ROOT", tmp_path / "code")
    return tmp_path / "code/pipeline/data"


def digests() -> dict[str, str]:
    return {name: reader_digest(name) for name in READERS}


def changed_by_an_edit_of(path: Path) -> set[str]:
    before = digests()
    path.write_text(path.read_text() + "\n# edited\n")
    return {name for name, digest in digests().items() if digest != before[name]}


def test_an_edit_of_a_reader_changes_its_datasets_and_no_others(edited: Path) -> None:
    assert changed_by_an_edit_of(edited / "readers/cifar.py") == {"cifar"}
    assert changed_by_an_edit_of(edited / "readers/idx.py") == {"mnist", "emnist"}
    assert changed_by_an_edit_of(edited / "readers/image_folder.py") == {"image_folder"}


def test_an_edit_of_what_readers_share_changes_those_that_use_it(edited: Path) -> None:
    arrays = {"cifar", "emnist", "imagenet", "imagenet64", "mnist", "places365", "stl10", "svhn"}
    assert changed_by_an_edit_of(edited / "raw/arrays.py") == arrays
    for name in SHARED:
        assert changed_by_an_edit_of(edited / f"{name}.py") == set(READERS)


def test_how_files_are_got_and_the_list_of_readers_change_none(edited: Path) -> None:
    for name in ("raw/splits", "../fingerprint/embedded", "readers/__init__"):
        assert changed_by_an_edit_of(edited / f"{name}.py") == set()
