"""What a network is chosen by: its accuracy, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.core.device import choose_precision
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params
from pipeline.profiling.probe import Probe
from wavemix.measure import count_macs, count_parameters

HIGHER_IS_BETTER = ("accuracy", "images_per_second")
LABELS = {
    "parameters": "parameters",
    "macs": "multiply-accumulates",
    "memory": "bytes an image keeps in training",
    "images_per_second": "training, images/s",
}
"""What readers call the costs."""


@dataclass(frozen=True)
class Cost:
    """What a network costs whatever its weights are."""

    parameters: int
    macs: int
    """Multiply-accumulates of a forward pass over one image."""
    memory: int
    """Bytes of activations per image that a training step keeps, counted."""


def count_cost(params: Params, manifest: Manifest, device: torch.device) -> Cost:
    """Count what the network of ``params`` costs on images of ``manifest``; nothing is trained."""
    with torch.random.fork_rng(devices=[]):
        probe = Probe(params, manifest, device, choose_precision(params.train.amp, device))
        return Cost(
            parameters=count_parameters(probe.network),
            macs=count_macs(probe.network, probe.images(1)),
            memory=round(probe.kept_bytes()),
        )


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[str]) -> bool:
    """Return whether ``one`` is at least as good as ``other`` in all ``objectives`` and better in one."""
    signs = [1 if name in HIGHER_IS_BETTER else -1 for name in objectives]
    gains = [sign * (mine - theirs) for sign, mine, theirs in zip(signs, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0
