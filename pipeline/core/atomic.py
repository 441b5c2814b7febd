"""Whole or not at all: write beside the target, flush, rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import FULL_DISK, UserError


@contextmanager
def explain_disk_errors(work: Path) -> Iterator[None]:
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


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which is then flushed to the disk and called ``folder``."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in (*part.iterdir(), part):
            flush(path)
    except BaseException:
        shutil.rmtree(part)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    flush(folder.parent)


def flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
