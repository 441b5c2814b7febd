"""Checks of names against the allowed ones, with a suggestion for a misspelt one."""

import difflib
from collections.abc import Iterable


def check_choice(what: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ValueError, with a suggestion if one is close, unless `value` is one of `allowed`."""
    names = list(allowed)
    if value not in names:
        raise ValueError(
            f"unknown {what} {value!r}{suggest(str(value), names)}; allowed are {', '.join(names)}"
        )


def suggest(value: str, names: Iterable[str]) -> str:
    """Return the closest of `names` as a question in brackets, or an empty string."""
    near = difflib.get_close_matches(value, list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
