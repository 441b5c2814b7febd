"""Where work units run. Every engine maps a pure function over them and yields as they finish."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pipeline.errors import UserError

U = TypeVar("U")
R = TypeVar("R")

AHEAD = 2
"""Units handed out per worker: one at work and one waiting bound memory, whatever the number of units."""


def run_local(function: Callable[[U], R], units: Sequence[U], workers: int | None) -> Iterator[R]:
    """Run ``function`` on each unit in ``workers`` processes (all cores when None).

    Raises:
        UserError: a worker died.
    """
    count = min(workers or available_cores(), len(units))
    if count <= 1:
        yield from map(function, units)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=(os.getpid(),))
    todo = iter(units)
    running: set[Future[R]] = set()
    try:
        while True:
            while len(running) < AHEAD * count and (unit := next(todo, None)) is not None:
                running.add(pool.submit(function, unit))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, most often because memory ran out; what is finished is kept: "
            "run again with fewer machine.workers"
        ) from None
    finally:
        _stop(pool)


ENGINES: dict[str, Callable[..., Iterator[object]]] = {"local": run_local}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, however it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the pool at once; units cut off are done again by the next run."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
