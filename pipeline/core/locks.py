"""Lock files: one process at a time on the same work."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from pipeline.core.errors import UserError, printable


@contextmanager
def exclusive_lock(*locks: Path, wait: bool = False, quietly: bool = False) -> Iterator[None]:
    """Hold these lock files; the system frees them however this process ends.

    Args:
        wait: until another process frees them, and say so.
        quietly: say nothing, where nobody holds them for long.

    Raises:
        UserError: another process holds one, and ``wait`` is false.
    """
    with ExitStack() as stack:
        for path in locks:
            stack.enter_context(_hold(path, wait, quietly))
            stack.callback(path.unlink, missing_ok=True)
        yield


def _hold(path: Path, wait: bool, quietly: bool) -> IO[str]:
    """Return the lock file, opened and locked, with the name of this process in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = printable(path.read_text(errors="replace")) or "another process"
            if not wait:
                raise UserError(
                    f"{holder} is at work on the same ({path} is locked); wait for it or stop it"
                ) from None
            if not quietly:
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
    """Return whether ``path`` is still that open file: who held the lock deletes it in the end."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
