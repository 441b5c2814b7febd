"""The folder of unfinished work: one process at a time, nothing lost, the finished whole put in its place."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import FULL_DISK, UserError


@contextmanager
def only_one(*locks: Path, wait: bool = False) -> Iterator[None]:
    """Hold these lock files; the system frees them however this process ends.

    Args:
        wait: until another process frees them, and say so.

    Raises:
        UserError: another process holds one, and ``wait`` is false.
    """
    with ExitStack() as stack:
        for path in locks:
            stack.enter_context(_hold(path, wait))
            stack.callback(path.unlink, missing_ok=True)
        yield


def _hold(path: Path, wait: bool) -> IO[str]:
    """The lock file, opened and locked, with the name of this process in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text() or "another process"
            if not wait:
                raise UserError(
                    f"{holder} is at work on the same ({path} is locked); wait for it or stop it"
                ) from None
            print(
                f"waiting for {holder}, at work on the same ({path} is locked); stop it to go on here",
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems have no locks; then nobody can be kept out.
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
        if _is_at(lock, path):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
            return lock
        lock.close()


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether ``path`` is still that open file: who held the lock deletes it in the end."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def disk_errors_explained(work: Path) -> Iterator[None]:
    """Turn the system's errors into one line; all that is finished in ``work`` stays."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise UserError(
                f"no space left on the disk of {work}; what is finished is kept: free some and run again"
            ) from None
        raise UserError(f"{error}; what is finished is kept: mend that and run again") from None


def move_into_place(whole: Path, target: Path) -> None:
    """Rename ``whole`` to ``target``; earlier shards there are moved aside first and deleted last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = whole.with_name("replaced")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        _rename(target, aside)
    _rename(whole, target)


def _rename(source: Path, target: Path) -> None:
    """Rename, also onto another file system: there the copy gets its name when it is whole."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
        shutil.copytree(source, partial)
        partial.rename(target)
        shutil.rmtree(source)
