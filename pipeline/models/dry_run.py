"""Networks without memory: built and run on torch's meta device, which knows shapes only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pipeline.core.errors import one_line
from pipeline.models.base import Family, NetworkSpec


class _SchedulesOnHost(TorchFunctionMode):
    """Keeps `torch.linspace` on the CPU: networks read their rates of stochastic depth from one when built."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        if func is torch.linspace:
            keywords.setdefault("device", "cpu")
        return func(*args, **keywords)


@contextmanager
def on_meta() -> Iterator[None]:
    """Make all tensors of the block on the meta device."""
    with torch.device("meta"), _SchedulesOnHost():
        yield


def meta_network(model: Family, spec: NetworkSpec) -> nn.Module:
    """Return the network on the meta device: names and shapes of its weights, no memory, no downloads."""
    with on_meta():
        return model.from_scratch().build(spec)


def check_by_running(model: Family, spec: NetworkSpec) -> None:
    """Refuse a network that cannot take the images of ``spec``, by trying.

    Raises:
        ValueError: names the size, and repeats what the network says.
    """
    height, width = spec.size
    takes = f"{model.label} does not take images of {height}x{width} in {spec.channels} channels"
    try:
        network = meta_network(model, spec)
        with on_meta():
            logits = network(torch.empty(2, spec.channels, height, width))
    except Exception as error:  # each network has its own way to refuse
        raise ValueError(f"{takes}: {one_line(error)}") from None
    expected = (2, spec.outputs, height, width) if spec.spatial else (2, spec.outputs)
    if getattr(logits, "shape", None) != expected:
        raise ValueError(f"{takes}: its output is no tensor of {expected}")


def smallest_batch(model: Family, spec: NetworkSpec) -> int:
    """Return the smallest batch that the network can be trained with: 1, or 2.

    It is 2 where a batch norm sees maps of one pixel, of which one image has no variance.
    """
    network = meta_network(model, spec)
    image = torch.empty(1, spec.channels, *spec.size, device="meta")
    try:
        with on_meta():
            network(image)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return 2
    except RuntimeError:  # autocast, for one, knows no meta device
        return 1
    return 1
