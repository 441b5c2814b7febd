"""Refusing an unknown name with a line that helps."""

import difflib
from collections.abc import Iterable


def check_choice(what: str, value: object, allowed: Iterable[str]) -> None:
    """Raises ValueError, with a suggestion where one is near, unless `value` is one of `allowed`."""
    names = list(allowed)
    if value not in names:
        raise ValueError(
            f"unknown {what} {value!r}{suggest(str(value), names)}; allowed are {', '.join(names)}"
        )


def suggest(value: str, names: Iterable[str]) -> str:
    """The nearest of `names` as a question in brackets, or nothing."""
    near = difflib.get_close_matches(value, list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
