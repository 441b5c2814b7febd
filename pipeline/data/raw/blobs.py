"""Raw files without unpacking them: byte ranges of files, cheap to list, to send to another process and to read.

A `Tree` names the blobs below a root, and what lies there besides.
"""

from __future__ import annotations

import os
import posixpath
import zlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.core.storage import is_remote, open_location

MAX_BLOB_BYTES = 1 << 30
"""No single raw image is larger; a member that says so is a bomb or no image."""


@dataclass(frozen=True, slots=True)
class Blob:
    """``length`` stored bytes at ``offset`` of ``file`` (a path or an fsspec URL), deflated or not.

    ``version`` changes when ``file`` is replaced or rewritten: its inode and times of change, or what the object store
    reports.
    """

    file: str
    offset: int
    length: int
    deflated: bool = False
    version: int | str = 0

    def part(self, offset: int, length: int, deflated: bool = False) -> Blob:
        """Return ``length`` bytes at ``offset`` of the same file."""
        return replace(self, offset=offset, length=length, deflated=deflated)

    def read(self) -> bytes:
        """Return the bytes, inflated.

        Raises:
            OSError: the file cannot be read, is shorter than it was, or the bytes do not inflate.
        """
        if self.length > MAX_BLOB_BYTES:
            raise OSError(f"{self.length} bytes, more than an image can have")
        stored = _read_range(self.file, self.offset, self.length)
        if len(stored) != self.length:
            raise OSError(f"cut short: {len(stored)} of {self.length} bytes")
        return _inflate(stored) if self.deflated else stored


IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif",
        ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
    }
)  # fmt: skip
"""Names that the image decoder is tried on; Pillow's wheels decode all of these formats."""


HIDDEN = "hidden file"
DANGLING = "dangling link"
LOOP = "link to a folder above it"
SPECIAL = "not a regular file"


class Tree(dict[str, Blob]):
    """Blobs by name, in sorted order; a name is a path relative to the root or archive, with ``/``.

    A folder in which nothing is listed has an entry of its own, its name ending in ``/``.
    """

    def __init__(self, blobs: Mapping[str, Blob], skipped: Mapping[str, str] | None = None) -> None:
        super().__init__((name, blobs[name]) for name in sorted(blobs))
        self.skipped = dict(skipped or {})
        """Names of what is not listed, with the reason."""

    @property
    def folders(self) -> list[str]:
        """Return the names of the top folders, sorted."""
        return sorted({name.partition("/")[0] for name in self if "/" in name})


def below(tree: Tree, folder: str) -> Tree:
    """Return the part of ``tree`` below ``folder``, named relative to it."""
    prefix = folder.rstrip("/") + "/"
    length = len(prefix)
    return Tree(
        {name[length:]: blob for name, blob in tree.items() if name.startswith(prefix) and name != prefix},
        {name[length:]: why for name, why in tree.skipped.items() if name.startswith(prefix)},
    )


def is_image(name: str) -> bool:
    """Return True when ``name`` ends as an image file's name does."""
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Return True when a part of the path ``name`` is hidden, or is what macOS adds to its archives."""
    return any(part.startswith(_HIDDEN) for part in name.split("/"))


_HIDDEN = (".", "__MACOSX")


def list_files(root: str) -> Tree:
    """List all files below ``root`` (a path or an fsspec URL) but hidden ones; nothing is opened."""
    if not is_remote(root):
        found: dict[str, Blob] = {}
        skipped: dict[str, str] = {}
        _walk(root, "", (_identity(Path(root).stat()),), found, skipped)
        return Tree(found, skipped)
    filesystem, start = open_location(root)
    objects = filesystem.find(start, detail=True)
    return visible_tree(
        {
            path[len(start) :].lstrip("/"): Blob(
                filesystem.unstrip_protocol(path), 0, info["size"], version=_remote_version(info)
            )
            for path, info in objects.items()
        }
    )


def visible_tree(
    blobs: Mapping[str, Blob], skipped: Mapping[str, str] | None = None, folders: Iterable[str] = ()
) -> Tree:
    """Return ``blobs`` without the hidden ones, with an entry for each folder that then lists nothing.

    ``folders`` are those known by name; the folders of what is skipped are added to them.
    """
    found = {name: blob for name, blob in blobs.items() if not is_hidden(name)}
    out = dict(skipped or {}) | {name: HIDDEN for name in blobs if is_hidden(name)}
    known = {folder for folder in (*folders, *_ancestors(out)) if not is_hidden(folder)}
    blank = Blob("", 0, 0)
    return Tree(found | {f"{name}/": blank for name in known - _ancestors(found)}, out)


def _ancestors(names: Iterable[str]) -> Set[str]:
    """Return the folders that ``names`` lie in, at every depth."""
    found: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _walk(
    folder: str,
    prefix: str,
    above: tuple[tuple[int, int], ...],
    found: dict[str, Blob],
    skipped: dict[str, str],
) -> None:
    """Add the files below ``folder`` to ``found``, or to ``skipped``. ``above`` identifies the folders it lies in."""
    before = len(found)
    with os.scandir(folder) as scan:
        entries = list(scan)
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith(_HIDDEN):
            skipped[name] = HIDDEN
        elif entry.is_dir():
            here = _identity(entry.stat())
            if here in above:
                skipped[name] = LOOP
            else:
                _walk(entry.path, f"{name}/", (*above, here), found, skipped)
        elif entry.is_file():
            status = entry.stat()
            found[name] = Blob(entry.path, 0, status.st_size, version=_local_version(status))
        else:
            skipped[name] = DANGLING if entry.is_symlink() else SPECIAL
    if len(found) == before and prefix:
        found[prefix] = Blob(folder, 0, 0)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _local_version(status: os.stat_result) -> int:
    """Return times of change in nanoseconds and the inode in one number: 64 bits each."""
    return status.st_mtime_ns << 128 | status.st_ctime_ns << 64 | status.st_ino


def _remote_version(info: Mapping[str, Any]) -> str:
    known = (info.get(name) for name in ("ETag", "etag", "LastModified", "updated", "mtime", "created"))
    return next((str(value) for value in known if value), "")


def _read_range(file: str, offset: int, length: int) -> bytes:
    if is_remote(file):
        filesystem, path = open_location(file)
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
