"""Errors a user can cause: one line, a non-zero exit, no traceback."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""The `OSError.errno` of a disk, or of a share of it, that is full."""


class UserError(Exception):
    """Something the user can mend.

    The message is one line that says what was got, what is allowed, and what to do.
    """


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest of ``allowed``, or ``""`` when nothing is near."""
    near = difflib.get_close_matches(got, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def one_line(error: Exception) -> str:
    """What ``error`` says, on one line of at most 200 characters; its type when it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def printable(text: str) -> str:
    r"""``text`` with what JSON cannot hold, a file name's bytes that are not UTF-8, spelt out: ``\udcff``."""
    return text.encode(errors="backslashreplace").decode()
