"""A stage as a process: how it starts, is stopped and ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from pipeline.core.errors import FULL_DISK, UserError


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


def is_first_process() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started; it need not have met them."""
    return os.environ.get("RANK", "0") == "0"


class StopSignal:
    """Notes SIGINT and SIGTERM instead of dying of them, so that work can be saved first.

    A second signal of the same kind is obeyed at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)
