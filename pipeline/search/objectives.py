"""What a network is chosen by: its accuracy, and what it costs."""

from __future__ import annotations

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
    "memory": "activations kept per image, bytes",
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


def figure_of(objective: str, accuracy: float | None, rate: float | None, cost: Cost | None) -> float | None:
    """Return the figure of ``objective``, given all that is known of a trial; None where it has none yet."""
    if objective == "accuracy":
        return accuracy
    if objective == "images_per_second":
        return rate
    return None if cost is None else float(getattr(cost, objective))


def percent(share: float | None) -> str:
    """Return an accuracy in words."""
    return "–" if share is None else f"{100 * share:.2f} %"
