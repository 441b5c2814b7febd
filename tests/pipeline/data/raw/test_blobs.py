"""Archives are read by offset and nothing in them is trusted."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_members, zip_members
from pipeline.data.raw.blobs import Blob, list_files
from pipeline.data.raw.streams import open_stream
from tests.pipeline.data.readers.raw import tar_of, zip_of

CONTENT = {"a/one.txt": b"one", "a/two.bin": bytes(range(256)) * 40, "empty": b""}


def blob_of(folder: Path, data: bytes) -> Blob:
    path = folder / "archive"
    path.write_bytes(data)
    return Blob(str(path), 0, len(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_members_are_read_by_offset(tmp_path: Path, method: int) -> None:
    members = zip_members(blob_of(tmp_path, zip_of(CONTENT, method)), "archive")
    assert {name: blob.read() for name, blob in members.items()} == CONTENT
    for name, blob in members.items():
        with open_stream(blob) as stream:
            assert stream.read() == CONTENT[name]


def test_tars_are_read_inside_tars(tmp_path: Path) -> None:
    outer = tar_of({"first.tar": tar_of({"x": b"1"}), "second.tar": tar_of(CONTENT)})
    inner = tar_members(blob_of(tmp_path, outer), "outer")
    assert {name: blob.read() for name, blob in tar_members(inner["second.tar"], "second").items()} == CONTENT
    assert list(tar_members(inner["first.tar"], "first")) == ["x"]


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:\\evil.png"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    for build, read in ((tar_of, tar_members), (zip_of, zip_members)):
        with pytest.raises(UserError, match="leads out of the archive"):
            read(blob_of(tmp_path, build({name: b"x"})), "archive")


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    once = tar_of({"same": b"1"})[:1024]
    with pytest.raises(UserError, match="'same' occurs twice"):
        tar_members(blob_of(tmp_path, once + tar_of({"same": b"2"})), "archive")


@pytest.mark.parametrize("kept", [0, 100, 512, 1024, 1536, 3000])
def test_a_tar_cut_anywhere_is_noticed(tmp_path: Path, kept: int) -> None:
    """Also at a member's boundary (512, 1024, 1536), where tarfile itself reads silently short."""
    whole = tar_of(CONTENT)
    with pytest.raises(UserError, match=r"archive: (not a whole tar archive|the tar archive is cut short)"):
        tar_members(blob_of(tmp_path, whole[:kept]), "archive")


def nameless_zip() -> bytes:
    """A zip whose directory has a member without a name."""
    data = bytearray(zip_of({"ab": b""}))
    entry = data.index(b"PK\x01\x02")
    data[entry + 28 : entry + 32] = b"\0\0\2\0"  # length of the name, length of the extra field
    return bytes(data)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", b"<html>not found</html>", nameless_zip()])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UserError, match="not a whole zip archive"):
        zip_members(blob_of(tmp_path, data), "archive")


def test_a_deflate_bomb_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.raw.blobs.MAX_BLOB_BYTES", 10_000)
    bomb = zip_members(blob_of(tmp_path, zip_of({"bomb": bytes(1_000_000)})), "archive")["bomb"]
    with pytest.raises(OSError, match="more than an image can have"):
        bomb.read()


def test_a_file_that_shrank_is_noticed(tmp_path: Path) -> None:
    blob = blob_of(tmp_path, b"12345678")
    (tmp_path / "archive").write_bytes(b"1234")
    with pytest.raises(OSError, match="cut short: 4 of 8"):
        blob.read()


def test_hidden_files_are_not_listed_but_empty_folders_are(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"22")
    (tmp_path / "a ä").write_bytes(b"1")
    assert [(name, blob.length) for name, blob in list_files(str(tmp_path)).items()] == [
        ("a ä", 1),
        ("b", 2),
        ("empty/", 0),
    ]
