"""Names of a library's networks, and the weights that it offers for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

from pipeline.core.errors import UserError, did_you_mean, one_line
from pipeline.models.base import Family

PATIENCE = 10.0
"""Seconds to wait for the first word of the hub that the weights come from."""


class LibraryKeys(Family):
    """The key of a network that a library has by name, perhaps with weights to download."""

    tried: ClassVar[bool] = True

    pretrained: bool = False
    """Start from the library's weights, which the first use downloads; random weights when false."""

    def from_scratch(self) -> Self:
        """Return the same network with random weights."""
        return self.model_copy(update={"pretrained": False})


def check_known(key: str, name: str, known: Iterable[str], allowed: str) -> None:
    """Refuse a name that is not ``known``.

    Raises:
        ValueError: names the nearest, and says what is ``allowed``.
    """
    names = list(known)
    if name not in names:
        raise ValueError(f"{key}: got {name!r}{did_you_mean(name, names)}, allowed: {allowed}")


@contextmanager
def downloading(model: LibraryKeys) -> Iterator[None]:
    """Build ``model`` in this block; where it downloads weights and that fails, say so in one line.

    Raises:
        UserError: there are no such weights, or they cannot be reached.
    """
    if not model.pretrained:
        yield
        return
    try:
        with _hub_or_cache():
            yield
    except Exception as error:  # each library and each transport has its own
        raise UserError(
            f"model.pretrained: got true, but the weights of {model.label} could not be had: {one_line(error)}; "
            "connect this machine, or set false"
        ) from None


@contextmanager
def _hub_or_cache() -> Iterator[None]:
    """Let only the cache serve where the hub is out of reach; by itself it would be asked for most of a minute."""
    from huggingface_hub import constants, get_session

    logger = logging.getLogger("huggingface_hub")
    before, level = constants.HF_HUB_OFFLINE, logger.level
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # the transport's own
        constants.HF_HUB_OFFLINE = True
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logger.setLevel(level)
