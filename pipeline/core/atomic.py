"""Whole or not at all: write beside the target, flush, rename. No other module of the pipeline does so by hand."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import FULL_DISK, UserError

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


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


@contextmanager
def atomic_file(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to; the file is flushed to the disk and renamed to ``path`` when the block ends well.

    Otherwise it is removed, and ``path`` stays as it was. Each process has its own temporary name, which ends in
    `PARTIAL`; a process that is killed leaves it behind.

    Args:
        folder: where the temporary file lies, on the file system of ``path``; by default beside ``path``, in a folder
            that is created if need be.
    """
    partial = (folder or path.parent) / f"{path.name}.{os.getpid()}{PARTIAL}"
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` with `atomic_file`."""
    with atomic_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


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
        with new_folder(target) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
        shutil.rmtree(source)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it is renamed to ``folder`` when the block ends well, and removed otherwise.

    Each process has its own temporary name. The files are not flushed to the disk.

    Raises:
        OSError: ``folder`` is there by then and holds something; it stays as it is.
    """
    partial = folder.with_name(f".{folder.name}{PARTIAL}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, which is then flushed to the disk and replaces ``folder``."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in (*part.iterdir(), part):
            _flush(path)
    except BaseException:
        shutil.rmtree(part)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
