"""Raw files without unpacking them: folders, tars (nested too) and zips, all as byte ranges.

Everything below a root is a `Blob`: cheap to list, to send to another process and to read on its own.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec

from pipeline.core.storage import is_remote

MAX_BLOB_BYTES = 1 << 30
"""No single raw image is larger; a member that says so is a bomb or no image."""


IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)


@dataclass(frozen=True, slots=True)
class Blob:
    """``length`` stored bytes at ``offset`` of ``file`` (a path or an fsspec URL), deflated or not.

    ``version`` is another when ``file`` was written again: its time of change in nanoseconds, or what the object
    store says.
    """

    file: str
    offset: int
    length: int
    deflated: bool = False
    version: int | str = 0

    def part(self, offset: int, length: int, deflated: bool = False) -> Blob:
        """``length`` bytes at ``offset`` of the same file."""
        return replace(self, offset=offset, length=length, deflated=deflated)

    def read(self) -> bytes:
        """The bytes, inflated.

        Raises:
            OSError: the file cannot be read, is shorter than it was, or the bytes do not inflate.
        """
        if self.length > MAX_BLOB_BYTES:
            raise OSError(f"{self.length} bytes, more than an image can have")
        stored = _read_range(self.file, self.offset, self.length)
        if len(stored) != self.length:
            raise OSError(f"cut short: {len(stored)} of {self.length} bytes")
        return _inflate(stored) if self.deflated else stored


Tree = Mapping[str, Blob]
"""Blobs by name: a path relative to the root or archive, with ``/``, in sorted order."""


def list_files(root: str) -> dict[str, Blob]:
    """All files below ``root`` (a path or an fsspec URL) but hidden ones; nothing is opened."""
    if is_remote(root):
        filesystem, start = fsspec.core.url_to_fs(root)
        found = filesystem.find(start, detail=True)
        tree = {
            path[len(start) :].lstrip("/"): Blob(
                filesystem.unstrip_protocol(path), 0, info["size"], version=_remote_version(info)
            )
            for path, info in found.items()
        }
    else:
        tree = dict(_walk(root, ""))
    return {name: tree[name] for name in sorted(tree) if not is_hidden(name)}


def below(tree: Tree, folder: str) -> dict[str, Blob]:
    """The part of ``tree`` below ``folder``, named relative to it."""
    prefix = folder.rstrip("/") + "/"
    return {name[len(prefix) :]: blob for name, blob in tree.items() if name.startswith(prefix)}


def is_image(name: str) -> bool:
    """Whether ``name`` ends as an image file's name does."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def open_blob(blob: Blob) -> BinaryIO:
    """The file that ``blob`` lies in, positioned at its first byte. Close it."""
    filesystem, path = fsspec.core.url_to_fs(blob.file)
    stream = filesystem.open(path, "rb")
    stream.seek(blob.offset)
    return cast(BinaryIO, stream)


def open_stream(blob: Blob) -> BinaryIO:
    """The bytes of ``blob``, inflated, as a stream that need not fit into memory. Close it."""
    return io.BufferedReader(_Stream(blob), 1 << 20)


class _Stream(io.RawIOBase):
    """Reads a blob from front to back."""

    def __init__(self, blob: Blob) -> None:
        self._file = open_blob(blob)
        self._left = blob.length
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if blob.deflated else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _some(self, most: int) -> bytes:
        """At least one byte and at most ``most``; none at the end."""
        if self._inflater is None:
            return self._stored(most)
        while True:
            stored = self._inflater.unconsumed_tail or self._stored(1 << 20)
            try:
                data = self._inflater.decompress(stored, most)
            except zlib.error as error:
                raise OSError(f"does not inflate: {error}") from None
            if data or not stored:
                return data

    def _stored(self, most: int) -> bytes:
        data = self._file.read(min(most, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


def is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, Blob]]:
    """Name and blob of each file; an empty folder is listed too, its name ending in ``/``."""
    with os.scandir(folder) as scan:
        entries = list(scan)
        if not entries and prefix:
            yield prefix, Blob(folder, 0, 0)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                status = entry.stat()
                yield (
                    prefix + entry.name,
                    Blob(entry.path, 0, status.st_size, version=status.st_mtime_ns),
                )


def _remote_version(info: Mapping[str, Any]) -> str:
    known = (info.get(name) for name in ("ETag", "etag", "LastModified", "updated", "mtime", "created"))
    return next((str(value) for value in known if value), "")


def _read_range(file: str, offset: int, length: int) -> bytes:
    if is_remote(file):
        filesystem, path = fsspec.core.url_to_fs(file)
        return bytes(filesystem.cat_file(path, start=offset, end=offset + length)) if length else b""
    with Path(file).open("rb", buffering=0) as stream:
        stream.seek(offset)
        return stream.read(length)


def _inflate(stored: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(stored, MAX_BLOB_BYTES)
    except zlib.error as error:
        raise OSError(f"does not inflate: {error}") from None
    if not inflater.eof:
        raise OSError("inflates to more than an image can have, or is cut short")
    return data
