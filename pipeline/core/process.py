"""A stage as a process: how it starts, is stopped and ends."""

from __future__ import annotations

import atexit
import gc
import io
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from pipeline.core.errors import FULL_DISK, UserError, printable
from pipeline.core.redact import without_credentials

SECOND_SIGNAL_SECONDS = 5.0
"""A signal that follows another sooner than this is the same wish: torchrun forwards SIGTERM, so that its workers get
it twice within milliseconds."""
_THRESHOLD = gc.get_threshold()
_IMPORT_THRESHOLD = 100_000


def start_and_end_quickly() -> None:
    """Have Python look for garbage seldom until `run_stage` begins, and not at all as the process ends.

    Imports make many objects and leave none as garbage: to look for it takes a fifth of the time of importing torch and
    MLflow, and up to a second at the end.
    """
    gc.set_threshold(_IMPORT_THRESHOLD)
    atexit.register(_end_quickly)  # the first that is registered comes last


def _end_quickly() -> None:
    if "triton" not in sys.modules:  # whose library counts what is left, and complains
        gc.freeze()


def run_stage(stage: Callable[[], None]) -> None:
    """Run ``stage`` as a process, the one place where its errors become its end.

    What the user or the machine can cause ends it with one line on stderr and exit status 1: a `UserError`, and
    whatever the system refuses (a full disk, a file that it cannot read, no memory). Anything else is a bug and
    keeps its traceback, without credentials.

    Ctrl-C ends with 130, as a shell expects: DVC records an exit status of 0 as success, so an interrupted
    stage must never end with it.
    """
    sys.excepthook = _print_traceback
    gc.set_threshold(*_THRESHOLD)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode shows "\xe9", and ends nothing
            stream.reconfigure(errors="backslashreplace")
    try:
        stage()
        _leave_process_group()
    except BrokenPipeError:  # nobody reads on, as in `wavemix predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (UserError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and not _is_foreseeable(error):
            raise
        sys.exit(f"error: {_explain(error)}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _leave_process_group() -> None:
    """Leave the group of processes, if there is one: gloo's threads may abort a process that ends as a member."""
    distributed = sys.modules.get("torch.distributed")  # most stages and commands never load torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _explain(error: Exception) -> str:
    """Return what happened, and what to do where the system's own message leaves that open, in one line."""
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs, or lower machine.workers or train.batch_size"
    message = printable(without_credentials(" ".join(str(error).split())))
    if isinstance(error, OSError) and _is_full_disk(error):
        return f"{message}; make room and run the same again"
    return message or type(error).__name__


def _is_foreseeable(error: OSError) -> bool:
    """Tell what the system says of a file, a disk or a connection from a wrong call of ours, which names no file."""
    named = error.filename is not None or isinstance(error, (PermissionError, ConnectionError, TimeoutError))
    return named or _is_full_disk(error)


def _is_full_disk(error: OSError) -> bool:
    """Tell a full disk, also one that filled up while a folder was copied: `shutil.Error` has no errno."""
    if isinstance(error, shutil.Error):
        return any(os.strerror(number) in str(error) for number in FULL_DISK)
    return error.errno in FULL_DISK


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(without_credentials("".join(traceback.format_exception(kind, error, trace))))


def is_first_process() -> bool:
    """Return True in the only process, or in the first that torchrun started; they need not have met yet."""
    return os.environ.get("RANK", "0") == "0"


class StopSignal:
    """Note SIGINT and SIGTERM instead of dying of them, so that work can be saved first.

    A second signal ends the process at once if it comes `SECOND_SIGNAL_SECONDS` or more after the first.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_at = 0.0
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
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), now
        elif now - self._received_at >= SECOND_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
