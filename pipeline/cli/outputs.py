"""Options that name what a command writes: refused before any work where nothing can be written there."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from pathlib import Path


def output_file(text: str) -> Path:
    """Return the file ``text`` that a command may write.

    Raises:
        ArgumentTypeError: it is a folder, or it cannot be made where it would be.
    """
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"{path} is a folder; name a file")
    _check_can_make(path.parent)
    return path


def output_folder(text: str) -> Path:
    """Return the folder ``text`` that a command may write into.

    Raises:
        ArgumentTypeError: it is a file, or it cannot be made where it would be.
    """
    path = Path(text)
    _check_can_make(path)
    return path


def _check_can_make(folder: Path) -> None:
    """Refuse a folder that cannot be made or written into."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ArgumentTypeError(f"{there} is no folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"{there} may not be written into; name another place")
