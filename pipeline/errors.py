"""Errors a user can cause: one line, a non-zero exit, no traceback."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

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


def in_one_line(error: Exception) -> str:
    """What ``error`` says, on one line of at most 200 characters; its type when it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def run_stage(stage: Callable[[], None]) -> None:
    """Run ``stage`` as a process: a `UserError` or a full disk ends it with one line on stderr and exit status 1.

    Ctrl-C ends with 130, as a shell expects: DVC records an exit status of 0 as success, so an interrupted
    stage must never end with it.
    """
    try:
        stage()
    except UserError as error:
        message = " ".join(str(error).split())
        sys.exit(f"error: {message}")
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        sys.exit(f"error: {error}; make room and run the same again")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def printable(text: str) -> str:
    r"""``text`` with what JSON cannot hold, a file name's bytes that are not UTF-8, spelt out: ``\udcff``."""
    return text.encode(errors="backslashreplace").decode()
