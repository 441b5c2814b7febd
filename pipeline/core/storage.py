"""A folder, here or in an object store (any fsspec URL), in which whatever can be seen is whole."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError, one_line

PROTOCOLS = (
    *("file", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"),
    *("hdfs", "webhdfs", "oci", "oss", "http", "https"),
)
"""fsspec's names of the stores that a location may lie in; others read archives, start programs or run code."""


@dataclass(frozen=True)
class Storage:
    """``location`` is a path or an fsspec URL; names are relative to it, with ``/``."""

    location: str

    def place(self, name: str) -> str:
        """Return the path or URL of ``name``."""
        return f"{self.location}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return the content of ``name``, or None where there is no such file."""
        filesystem, path = self._resolve(name)
        try:
            return bytes(filesystem.cat_file(path))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Let ``name`` hold ``content``, whole."""
        with self.writing(name) as path:
            path.write_bytes(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local path to write ``name`` to; the file is put in place, whole, when the block ends well."""
        if not is_remote(self.location):
            with atomic_file(Path(self.place(name))) as partial:
                yield partial
            return
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / Path(name).name
            yield whole
            filesystem, path = self._resolve(name)
            filesystem.put_file(str(whole), path)

    def opening(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Return the content of ``name`` as a stream."""
        filesystem, path = self._resolve(name)
        return cast(AbstractContextManager[IO[bytes]], filesystem.open(path, "rb"))

    def holds(self, name: str, length: int, sha256: str) -> bool:
        """Return whether ``name`` is there with this length and hash."""
        filesystem, path = self._resolve(name)
        try:
            if filesystem.size(path) != length:
                return False
            with self.opening(name) as stream:
                return _sha256(stream) == sha256
        except FileNotFoundError:
            return False

    def names(self, folder: str = "") -> list[str]:
        """Return all files below ``folder``, relative to this storage."""
        filesystem, path = self._resolve(folder)
        _, base = self._resolve("")
        base = base.rstrip("/")
        try:
            return sorted(found[len(base) :].lstrip("/") for found in filesystem.find(path))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Delete the file ``name`` if it is there."""
        filesystem, path = self._resolve(name)
        if filesystem.exists(path):
            filesystem.rm_file(path)

    def _resolve(self, name: str) -> tuple[Any, str]:
        filesystem, path = open_location(self.place(name) if name else self.location)
        filesystem.invalidate_cache()  # other processes write here too
        return filesystem, path


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 22):
        digest.update(block)
    return digest.hexdigest()


def is_remote(location: str) -> bool:
    """Tell whether ``location`` is an fsspec URL rather than a path."""
    return "://" in location


def check_location(location: str) -> str:
    """Return ``location``, a path or a URL of one of `PROTOCOLS`.

    Raises:
        ValueError: another protocol, or a chain of them (``::``).
    """
    protocol = location.partition("://")[0] if is_remote(location) else ""
    if location.lstrip().startswith("pipe:") or (protocol and protocol not in PROTOCOLS):
        raise ValueError(f"location {location!r}: allowed are paths and URLs of {', '.join(PROTOCOLS)}")
    if protocol and "::" in location:
        raise ValueError(f"location {location!r}: one URL is allowed, no chain with ::")
    return location


def open_location(location: str) -> tuple[Any, str]:
    """Return the fsspec file system that ``location`` lies in, and its path there.

    fsspec would take ``::`` in a path for a chain of file systems; here a path is a path.

    Raises:
        UserError: another protocol than `PROTOCOLS`, or a chain of them.
    """
    if is_remote(location):
        try:
            return cast(tuple[Any, str], fsspec.core.url_to_fs(check_location(location)))
        except ValueError as error:
            raise UserError(one_line(error)) from None
    filesystem = fsspec.filesystem("file")
    return filesystem, filesystem._strip_protocol(location)
