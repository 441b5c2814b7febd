"""Changed content is seen, and nothing else: not other times, not another machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.data.raw.blobs import Blob, list_files
from pipeline.fingerprint import content
from pipeline.fingerprint.content import content_digest
from tests.pipeline.workshop import Workshop


@pytest.fixture
def raw(workshop: Workshop) -> Path:
    for name, value in (("a/1.bmp", b"dark"), ("b/1.bmp", b"pale")):
        workshop.write(name, value)
    return workshop.raw


def digest(raw: Path, mode: str = "stat") -> str | None:
    return content_digest("own", list_files(str(raw)), mode)  # type: ignore[arg-type]


def exchange_classes(raw: Path) -> None:
    (raw / "a").rename(raw / "c")
    (raw / "b").rename(raw / "a")
    (raw / "c").rename(raw / "b")


@pytest.mark.parametrize("mode", ["stat", "content"])
def test_exchanged_class_folders_are_seen(raw: Path, mode: str) -> None:
    os.utime(raw / "a/1.bmp", ns=(0, 0))
    os.utime(raw / "b/1.bmp", ns=(0, 0))
    before = digest(raw, mode)
    exchange_classes(raw)
    assert digest(raw, mode) not in (before, None)
    exchange_classes(raw)
    assert digest(raw, mode) == before


def test_a_file_written_again_under_its_old_time_is_seen(raw: Path) -> None:
    before, status = digest(raw), (raw / "a/1.bmp").stat()
    (raw / "a/1.bmp").write_bytes(b"DARK")
    os.utime(raw / "a/1.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest(raw) != before


def test_other_times_alone_change_nothing(raw: Path) -> None:
    before = digest(raw)
    os.utime(raw / "a/1.bmp", ns=(1, 1))
    assert digest(raw) == before


def test_a_copy_on_another_machine_has_the_same_digest(raw: Path, tmp_path: Path) -> None:
    before = digest(raw)
    shutil.rmtree(".work")
    shutil.copytree(raw, tmp_path / "copy", copy_function=shutil.copyfile)
    assert digest(tmp_path / "copy") == before


def test_unchanged_files_are_not_read_again(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Blob] = []
    hash_one = content._hash

    def note(blob: Blob) -> str:
        read.append(blob)
        return hash_one(blob)

    monkeypatch.setattr(content, "_hash", note)
    before = digest(raw)
    assert len(read) == 2
    assert digest(raw) == before
    assert len(read) == 2
    assert digest(raw, "content") == before
    assert len(read) == 4


def test_a_large_dataset_is_not_read_until_it_changes(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "HASHED_BYTES", 7)
    assert digest(raw) is None
    assert digest(raw) is None
    exchange_classes(raw)
    changed = digest(raw)
    assert changed is not None
    os.utime(raw / "a/1.bmp", ns=(1, 1))
    assert digest(raw) == changed
