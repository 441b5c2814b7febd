"""Shards of an object store, kept on this machine: each is downloaded once for all of its processes.

They lie in the system's folder for temporary files (TMPDIR) under their hashes, and go when their room is needed,
the one that was used longest ago first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import FULL_DISK, UserError
from pipeline.core.storage import Storage
from pipeline.data.shards.manifest import Shard

DISK_SHARE = 1 / 2
"""Part of the free disk that the cache may take, counted as if the cache were empty."""


def open_shard(storage: Storage, shard: Shard) -> BinaryIO | None:
    """Open ``shard``, downloaded from ``storage`` unless it is here; None where the disk has no room for it.

    Raises:
        UserError: it is missing there, or has other bytes than were written.
    """
    folder = cache_folder()
    path = folder / f"{shard.sha256}.tar"
    with _locked(folder / f"{shard.sha256[:2]}.lock"):
        if not path.exists() and not (_make_room(folder, shard.bytes) and _download(storage, shard, path)):
            return None
        os.utime(path)
        # Whoever needs the room may delete the file from now on; what is open stays readable.
        return path.open("rb")


def read_shard(storage: Storage, shard: Shard) -> bytes:
    """Return the content of ``shard``, downloaded into memory.

    Raises:
        UserError: as `open_shard`.
    """
    content = storage.read(shard.name)
    _check(storage, shard, None if content is None else hashlib.sha256(content).hexdigest())
    assert content is not None
    return content


def cache_folder() -> Path:
    """Return the folder that the shards are kept in, this user's own.

    Raises:
        UserError: somebody else's folder is in its place.
    """
    folder = Path(tempfile.gettempdir()) / f"wavemix-shards-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to somebody else; set TMPDIR to a folder of your own")
    return folder


def _download(storage: Storage, shard: Shard, path: Path) -> bool:
    """Copy ``shard`` to ``path`` and return True, or False where the disk is full."""
    for leftover in path.parent.glob(f"{path.name}.*"):  # of a process that was killed: the lock is ours
        leftover.unlink()
    digest = hashlib.sha256()
    try:
        with atomic_file(path) as partial:
            with storage.opening(shard.name) as source, partial.open("wb") as file:
                while block := source.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            _check(storage, shard, digest.hexdigest())
    except FileNotFoundError:
        _check(storage, shard, None)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        return False
    return True


def _check(storage: Storage, shard: Shard, sha256: str | None) -> None:
    """Refuse a shard that is missing (None) or has another hash than was written."""
    if sha256 != shard.sha256:
        reason = "missing" if sha256 is None else "not what was written"
        raise UserError(f"{storage.place(shard.name)}: {reason}; prepare it again")


def _make_room(folder: Path, length: int) -> bool:
    """Delete what was used longest ago until ``length`` bytes more fit; return whether they do."""
    kept = []
    for path in folder.glob("*.tar"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process made room
            continue
        kept.append((status.st_mtime_ns, status.st_size, path))
    held = sum(size for _, size, _ in kept)
    limit = DISK_SHARE * (shutil.disk_usage(folder).free + held)
    if length > limit:
        return False
    for _, size, path in sorted(kept):
        if held + length <= limit:
            break
        path.unlink(missing_ok=True)
        held -= size
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for another thread or process that does."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
