"""When a training looks up from its steps: to log, to save, to stop."""

from __future__ import annotations

import signal
import time
from types import TracebackType
from typing import Self

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline.core.process import StopSignal

LOG_SECONDS = 5.0
"""Between two moments in which the loss is read, which waits for the device."""
STOP_STEPS = 8
"""Between two exchanges in which several processes learn of a signal that one of them received."""


class Timer:
    """Seconds since it was last restarted."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._since

    def restart(self) -> float:
        """Begin again from 0; return the seconds until now."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        return seconds


class StopVote:
    """Lets all processes learn at the same step that one of them was asked to stop, and none wait for its device.

    Every `STOP_STEPS` steps they add up their votes, and read the sum of the time before, long since copied to the
    host.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._on_gpu = accelerator.device.type == "cuda"
        self._votes: Tensor = torch.zeros(1, pin_memory=self._on_gpu)
        self._copied: torch.cuda.Event | None = None

    def cast(self, step: int, stop: bool) -> bool:
        """Vote after ``step``; return whether anyone had voted to stop the time before. Every process calls it."""
        if self._accelerator.num_processes == 1:
            return stop
        if step % STOP_STEPS > 0:
            return False
        if self._copied is not None:
            self._copied.synchronize()
        stopped = bool(self._votes > 0)
        vote = torch.full((1,), float(stop), device=self._accelerator.device)
        self._votes.copy_(self._accelerator.reduce(vote, reduction="sum"), non_blocking=True)
        if self._on_gpu:
            self._copied = torch.cuda.current_stream().record_event()
        return stopped


class Cadence:
    """The clocks of a training and the signals that stop it, while it is entered as a context."""

    def __init__(self, accelerator: Accelerator, checkpoint_seconds: float) -> None:
        self._signal = StopSignal()
        self._vote = StopVote(accelerator)
        self._checkpoint_seconds = checkpoint_seconds
        self._since_log, self._since_save = Timer(), Timer()

    def __enter__(self) -> Self:
        self._signal.__enter__()
        self._since_log.restart()
        self._since_save.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal.__exit__(kind, error, trace)

    def log_due(self) -> bool:
        """Return whether `LOG_SECONDS` have passed since this was last true."""
        due = self._since_log.seconds() > LOG_SECONDS
        if due:
            self._since_log.restart()
        return due

    def save_due(self) -> bool:
        """Return whether ``machine.checkpoint_seconds`` have passed since the state was last saved."""
        return self._since_save.seconds() > self._checkpoint_seconds

    def saved(self) -> None:
        """Take note that the state was saved."""
        self._since_save.restart()

    def stop_requested(self, step: int) -> signal.Signals | None:
        """Return the signal to stop for after ``step``, at the same step in every process; most often None."""
        if self._vote.cast(step, self._signal.received is not None):
            return self._signal.received or signal.SIGTERM
        return None
