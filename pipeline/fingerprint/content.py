"""Content of the raw files: hashed when it may have changed, so that files of equal names and sizes are told apart.

The digest depends on names and content alone, so a copy of the files elsewhere has the same one. What inodes and
times were when it was taken stays in the work folder of this machine.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, cast

from pydantic import BaseModel, ValidationError

from pipeline.core.errors import UserError
from pipeline.core.paths import work_folder
from pipeline.core.storage import Storage, is_remote
from pipeline.data.raw.blobs import Blob, Tree
from pipeline.data.raw.streams import open_blob

HASHED_BYTES = 4 << 30
"""Files of a dataset of up to 4 GiB here are hashed when they are first seen: some seconds, and then they are in
the page cache for `prepare`."""


THREADS = 4
"""hashlib lets other threads run; more do not make one disk faster."""


class _Seen(BaseModel):
    """Names, sizes and versions of all files when ``content`` was found."""

    names: str
    versions: str
    content: str | None


def content_digest(data: str, files: Tree, mode: Literal["stat", "content"]) -> str | None:
    """Return a digest of names and content of ``files``, or None for a large dataset that has not changed so far.

    With ``stat`` nothing is read while inodes and times are as they were. Where they are not, content decides;
    a dataset of over `HASHED_BYTES`, or in an object store, counts as changed the first time.

    Raises:
        UserError: a file cannot be read.
    """
    record = work_folder("fingerprint", f"{data}.json")
    names = _digest(f"{name}\0{blob.length}" for name, blob in files.items())
    versions = _digest(f"{name}\0{blob.length}\0{blob.version}" for name, blob in files.items())
    seen = _read(record.parent, record.name)
    if mode == "stat" and seen is not None and seen.versions == versions:
        return seen.content
    small = sum(blob.length for blob in files.values()) <= HASHED_BYTES
    local = not any(is_remote(blob.file) for blob in files.values())
    changed = seen is not None and seen.names == names
    content = _hash_all(files) if mode == "content" or changed or (small and local) else None
    seen = _Seen(names=names, versions=versions, content=content)
    Storage(str(record.parent)).write(record.name, seen.model_dump_json().encode())
    return content


def _read(folder: object, name: str) -> _Seen | None:
    try:
        return _Seen.model_validate_json(Storage(str(folder)).read(name) or b"")
    except ValidationError:
        return None


def _hash_all(files: Tree) -> str:
    blobs = {name: blob for name, blob in files.items() if not name.endswith("/")}
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            hashes = pool.map(_hash, blobs.values())
            return _digest(f"{name}\0{found}" for name, found in zip(blobs, hashes, strict=True))
    except OSError as error:
        raise UserError(f"{error}; the raw files must be readable, mend that and run again") from None


def _hash(blob: Blob) -> str:
    with open_blob(blob) as stream:
        return hashlib.file_digest(cast(io.BufferedReader, stream), "sha256").hexdigest()


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
