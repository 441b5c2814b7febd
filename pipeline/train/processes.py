"""The processes of a training: what one of them knows and the others must learn, and what all must agree on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.state import AcceleratorState
from torch import Tensor

from pipeline.core.errors import UserError

Result = TypeVar("Result")


class Processes:
    """This process and those that torchrun started beside it, on this node and others. Alone, it is all of them.

    All methods are collective: every process calls them, in the same order. They are for before and between steps,
    not within one.
    """

    def __init__(self, device: torch.device) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=device.type == "cpu")
        self.rank: int = state.process_index
        self.world_size: int = state.num_processes
        self.device: torch.device = state.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def together(self, work: Callable[[], Result]) -> Result:
        """Return ``work()``, done by every process.

        Raises:
            UserError: it failed in any of them, be it in this one or not. So none waits for one that gave up.
        """
        result, error = _attempt(work)
        errors = self._gather((platform.node(), error))
        everywhere = len({message for _, message in errors}) == 1
        for rank, (node, message) in enumerate(errors):
            if message is not None:
                raise UserError(message if everywhere else f"process {rank} on {node}: {message}")
        assert result is not None
        return result[0]

    def from_first(self, work: Callable[[], Result]) -> Result:
        """Return what ``work()`` gives the first process, the only one to do it; the result has to be picklable.

        Raises:
            UserError: it failed there.
        """
        outcome: list[Any] = [_attempt(work) if self.is_first else None]
        if self.world_size > 1:
            dist.broadcast_object_list(outcome, src=0, device=self.device)
        result, error = outcome[0]
        if error is not None:
            raise UserError(error)
        answer: Result = result[0]
        return answer

    def tensors_from_first(self, read: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors that ``read()`` gives the first process, by name; the others receive copies.

        Raises:
            UserError: it failed there.
        """
        own: dict[str, Tensor] = {}

        def describe() -> list[tuple[str, torch.Size, torch.dtype]]:
            own.update(read())
            return [(name, tensor.shape, tensor.dtype) for name, tensor in own.items()]

        described = self.from_first(describe)
        if self.world_size == 1:
            return own
        received = {}
        for name, shape, dtype in described:
            tensor = torch.empty(shape, dtype=dtype, device=self.device)
            if self.is_first:
                tensor.copy_(own[name])
            dist.broadcast(tensor, src=0)
            received[name] = tensor
        return received

    def check_same(self, values: Mapping[str, object]) -> None:
        """Compare ``values``, by what they are, over all processes.

        Raises:
            UserError: one of them differs somewhere.
        """
        gathered = self._gather((platform.node(), dict(values)))
        first_node, expected = gathered[0]
        for rank, (node, got) in enumerate(gathered):
            for name, value in got.items():
                if value != expected[name]:
                    raise UserError(
                        f"process {rank} on {node} has other {name} than process 0 on {first_node} "
                        f"({value}, not {expected[name]}); give all nodes the same files, then start again"
                    )

    def smallest(self, number: int) -> int:
        """Return the smallest ``number`` of all processes."""
        return min(self._gather(number))

    def _gather(self, value: Result) -> list[Result]:
        """Return the ``value`` of each process, by rank."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered


def _attempt(work: Callable[[], Result]) -> tuple[tuple[Result] | None, str | None]:
    """Return the result of ``work()``, or the message of its `UserError`."""
    try:
        return (work(),), None
    except UserError as error:
        return None, str(error)
