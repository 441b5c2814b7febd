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
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.core.errors import UserError

U = TypeVar("U")


R = TypeVar("R")


AHEAD = 2
"""Units handed out per worker: one at work and one waiting bound memory, whatever the number of units."""


RETRIES = 5
"""How often Ray runs a unit again whose worker or node was lost."""


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
            with _without_ctrl_c():  # the pool starts its workers as it is given units
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


def run_ray(function: Callable[[U], R], units: Sequence[U], workers: int | None) -> Iterator[R]:
    """Run ``function`` on each unit on the Ray cluster that RAY_ADDRESS names, ``workers`` at a time at most.

    Raw files and shards must lie where every node finds them: a shared folder or an object store; and every node has
    this project installed, in the environment that Ray was started in. A unit whose worker or node is lost runs again
    elsewhere, up to `RETRIES` times.

    Raises:
        UserError: Ray is not installed, or a unit was lost too often.
    """
    # Under `uv run` Ray would copy the project to every worker and have each install it for itself, at the same time.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise UserError("machine.engine is ray, which is not installed; run `uv sync --extra ray`") from None
    started = not ray.is_initialized()
    if started:
        ray.init(
            logging_level="warning", log_to_driver=False, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}
        )
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
    ahead = AHEAD * (workers or int(ray.cluster_resources().get("CPU", 1)))
    todo = iter(units)
    running: list[Any] = []
    try:
        while True:
            while len(running) < ahead and (unit := next(todo, None)) is not None:
                running.append(task.remote(unit))
            if not running:
                return
            done, running = ray.wait(running)
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise UserError(
            f"a worker was lost {RETRIES} times ({type(error).__name__}); what is finished is kept: run again"
        ) from None
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


ENGINES: dict[str, Callable[..., Iterator[Any]]] = {"local": run_local, "ray": run_ray}


def available_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back for the block, and from processes that start in it until they leave it to their parent.

    A worker imports for a second or more before `_start_worker` ignores Ctrl-C; one that came in between ended it with
    a traceback, as it did when the parent had started it by half.
    """
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C is not its business
        yield
        return
    pressed = threading.Event()
    handler = signal.signal(
        signal.SIGINT, lambda *_: pressed.set()
    )  # other threads take it though this one does not
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if pressed.is_set() and callable(handler):
        handler(signal.SIGINT, None)


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
