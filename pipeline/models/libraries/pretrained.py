"""Names of a library's networks, and the weights that it offers for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from pipeline.errors import UserError, did_you_mean, in_one_line
from pipeline.models.base import Family

NAMES_SHOWN = 8


class PretrainedKeys(Family):
    """The key of a network for which there are weights to download."""

    pretrained: bool = False
    """Start from the library's weights, which the first use downloads; random weights when false."""

    def from_scratch(self) -> Self:
        """Return the same network with random weights."""
        return self.model_copy(update={"pretrained": False})


def check_known(key: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not ``known``.

    Raises:
        ValueError: names the nearest, or some that are known.
    """
    names = list(known)
    if name not in names:
        some = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
        raise ValueError(f"{key}: got {name!r}{did_you_mean(name, names)}, allowed: {some}")


@contextmanager
def downloading(model: PretrainedKeys) -> Iterator[None]:
    """Tell a download that fails in one line.

    Raises:
        UserError: there are no such weights, or they cannot be reached.
    """
    if not model.pretrained:
        yield
        return
    try:
        yield
    except Exception as error:  # each library and each transport has its own
        raise UserError(
            f"model.pretrained: got true, but no weights of {model.label} could be had: {in_one_line(error)}; "
            "connect this machine, or set false"
        ) from None
