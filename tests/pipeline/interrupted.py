"""Trainings that end where a test wants them to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.train.trainer import Trainer


class Interrupted(Exception):
    """What `cut_off` ends a training with."""


@contextmanager
def cut_off(
    method: str,
    when: Callable[[Trainer], bool],
    *,
    after: bool = False,
    error: type[BaseException] = Interrupted,
) -> Iterator[None]:
    """Trainings within raise ``error`` before (or ``after``) they do ``method``, the first time that ``when`` holds."""
    whole = getattr(Trainer, method)

    def cut(self: Trainer, *arguments: Any) -> None:
        if after:
            whole(self, *arguments)
        if when(self):
            raise error
        if not after:
            whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, method, cut)
        yield
