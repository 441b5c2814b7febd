"""Downloads from a server started here: whole and checked, or one line and nothing left behind."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.fingerprint import raw_files
from pipeline.fingerprint.downloads import Download, downloads
from tests.pipeline.workshop import Workshop

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "data.tar").write_bytes(CONTENT)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def acquire(workshop: Workshop, file: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fingerprint.raw_files.downloads", lambda: {"small": [file]})
    workshop.raw.rmdir()
    raw_files.acquire("own", workshop.params(source="small").named("own"), str(workshop.raw))


def test_a_missing_root_is_downloaded(workshop: Workshop, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire(workshop, Download(f"{url}/data.tar", hashlib.md5(CONTENT).hexdigest()), monkeypatch)
    assert (workshop.raw / "data.tar").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "message"), [("data.tar", "the download's md5 is not"), ("gone.tar", "cannot be downloaded")]
)
def test_a_bad_download_leaves_nothing(
    workshop: Workshop, url: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=message):
        acquire(workshop, Download(f"{url}/{name}", "0" * 32), monkeypatch)
    assert [path.name for path in workshop.folder.iterdir()] == [".work"]  # of the lock


def test_an_unreachable_server_gets_one_line(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cannot be downloaded .* put it into the root"):
        acquire(workshop, Download("http://127.0.0.1:9/data.tar", "0" * 32), monkeypatch)


def test_every_small_dataset_of_the_paper_has_a_source() -> None:
    known = downloads()
    want = {"cifar10", "cifar100", "mnist", "fashion_mnist", "emnist", "svhn", "stl10", "tiny_imagenet"}
    assert want <= known.keys()
    for files in known.values():
        for file in files:
            assert len(file.md5) == 32
            assert Path(file.name).suffix in (".gz", ".zip", ".mat", ".tar")
