"""Errors a user can cause: one line, a non-zero exit, no traceback."""

from __future__ import annotations

import difflib
import errno
import unicodedata
from collections.abc import Iterable

from pipeline.core.redact import without_credentials

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""The `OSError.errno` of a disk, or of a share of it, that is full."""
_OBEYED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that a terminal obeys or cannot encode: control characters, surrogates, line separators."""
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows, so that a name reads as another one."""


class UserError(Exception):
    """A problem that the user can solve.

    The message is one line that says what was got, what is allowed, and what to do.
    """


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of ``allowed``, or ``""`` when nothing is near."""
    near = difflib.get_close_matches(got, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` as one printable line of at most 200 characters; its type if it has none."""
    return printable(without_credentials(" ".join(str(error).split())))[:200] or type(error).__name__


def printable(text: str) -> str:
    r"""Return ``text`` with what a terminal obeys, or UTF-8 cannot hold, spelt out: ``\x1b``, ``\u202e``, ``\udcff``.

    Names of files and classes come from strangers. Every name that is printed goes through here.
    """
    return "".join(map(_spelt_out, text))


def _spelt_out(character: str) -> str:
    if unicodedata.category(character) in _OBEYED or character in _TURNING:
        return character.encode("unicode_escape").decode("ascii")
    return character
