"""Batches made and sent to the device before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

from pipeline.core.device import upload
from pipeline.data.loading.batch import Batch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(items: Iterator[Item], work: Callable[[Item], Result], threads: int) -> Iterator[Result]:
    """Yield ``map(work, items)``, in its order, with ``threads`` results worked on before they are asked for."""
    with ThreadPoolExecutor(threads) as pool:
        pending = deque(pool.submit(work, item) for item in islice(items, threads))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
            del result


def prefetch(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield ``batches`` on ``device``; from the host to a GPU each travels while the one before is worked on."""
    first = next(batches, None)
    if first is None:
        return
    batches, is_there = chain([first], batches), device.type != "cuda" or first.image.is_cuda
    del first
    if is_there:
        # No copy to wait for: what lies on the GPU already is gathered there.
        yield from (Batch(*(upload(part, device) for part in batch)) for batch in batches)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            return Batch(*(upload(part, device) for part in batch)), stream.record_event()

    for batch, sent in map_ahead(batches, send, 1):
        # What is queued from now on waits for the copy; the host does not.
        current = torch.cuda.current_stream(device)
        current.wait_event(sent)
        for part in batch:
            part.record_stream(current)
        yield batch
