"""What is written under a temporary name is seen whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core.atomic import PARTIAL, atomic_file, new_folder, write_atomically
from pipeline.core.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_seen_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    with atomic_file(path) as partial:
        partial.write_text("first")
        assert names(path.parent) == [f"file.json.{os.getpid()}{PARTIAL}"]
    assert names(path.parent) == ["file.json"]
    write_atomically(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_atomically(path, b"\0\r\n")
    assert path.read_bytes() == b"\0\r\n"
    assert names(path.parent) == ["file.json"]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise UserError("played")

    path = tmp_path / "file.json"
    path.write_text("before")
    with pytest.raises(UserError, match="played"):
        fail()
    assert (names(tmp_path), path.read_text()) == (["file.json"], "before")


def test_a_file_may_be_written_in_another_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with atomic_file(tmp_path / "file.json", work) as partial:
        partial.write_text("whole")
        assert (partial.parent, names(tmp_path)) == (work, ["work"])
    assert (names(work), (tmp_path / "file.json").read_text()) == ([], "whole")


def test_a_new_folder_replaces_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(root) as partial:
            (partial / "image.png").write_bytes(b"written")
            root.mkdir()
            (root / "image.png").write_bytes(b"the user's")

    root = tmp_path / "raw"
    with pytest.raises(OSError, match="not empty"):
        fill()
    assert (names(tmp_path), (root / "image.png").read_bytes()) == (["raw"], b"the user's")


def test_a_new_folder_starts_empty(tmp_path: Path) -> None:
    leftover = tmp_path / f".raw{PARTIAL}-{os.getpid()}"
    leftover.mkdir()
    (leftover / "half.png").write_bytes(b"of a killed process")
    with new_folder(tmp_path / "raw") as partial:
        (partial / "whole.png").write_bytes(b"")
    assert (names(tmp_path), names(tmp_path / "raw")) == (["raw"], ["whole.png"])
