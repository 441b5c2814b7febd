"""The temperature that makes a classifier's confidence honest (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.tasks.metrics import Reduce

TEMPERATURE = "temperature"
"""Key of `Trained.decision`: the logits are divided by it before the softmax."""
OCTAVES = (-3.0, 5.0)
"""The temperatures tried are powers of two from 1/8 to 32."""
STEPS = 64
"""Between them: eight to an octave."""
LOSS_UNIT = 2**20
"""Losses are summed in units of 2^-20, as integers, so that no order of the samples changes the sum."""
LARGEST_LOSS = 100.0
"""Nats that one sample counts at most, so that no sum overflows."""


def loss_counts(logits: Tensor, target: Tensor) -> Tensor:
    """Return the summed cross-entropy at each temperature in `LOSS_UNIT`, int64 (STEPS + 1,).

    Args:
        logits: float (B, classes).
        target: int64 (B,).
    """
    target = target.clamp(0, logits.shape[1] - 1)
    sums = []
    for scale in torch.exp2(-torch.linspace(*OCTAVES, STEPS + 1)).tolist():
        scaled = logits * scale
        losses = scaled.logsumexp(1) - scaled.gather(1, target[:, None])[:, 0]
        losses = losses.nan_to_num(LARGEST_LOSS).clamp(max=LARGEST_LOSS)
        sums.append((losses * LOSS_UNIT).round().long().sum())
    return torch.stack(sums)


def best_temperature(counts: Sequence[int]) -> float:
    """Return the temperature of least cross-entropy, between the steps by a parabola; 1 where nothing was counted."""
    if not any(counts):
        return 1.0
    least = min(range(len(counts)), key=counts.__getitem__)
    place = float(least)
    if 0 < least < len(counts) - 1:
        before, here, after = counts[least - 1], counts[least], counts[least + 1]
        curvature = before - 2 * here + after
        place += 0.5 * (before - after) / curvature if curvature else 0.0
    low, high = OCTAVES
    return 2 ** (low + (high - low) * place / STEPS)


class TemperatureFit:
    """Counts losses at all temperatures, batch by batch on ``device``; reduced once over ranks."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._counts = torch.zeros(STEPS + 1, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one batch, as `loss_counts` takes it; never waits for the device."""
        self._counts += loss_counts(logits.detach().float(), target)

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the counts of all ranks; call it once, on every rank."""
        self._counts = sum_over_ranks(self._counts)

    def decision(self) -> dict[str, list[float]]:
        """Return the best temperature as `Trained.decision` keeps it."""
        return {TEMPERATURE: [best_temperature(self._counts.tolist())]}


def temperature_of(decision: Mapping[str, Sequence[float]]) -> float:
    """Return the temperature in `Trained.decision`, 1 where there is none.

    Raises:
        UserError: it is no number above 0.
    """
    values = decision.get(TEMPERATURE, [1.0])
    if len(values) != 1 or not 0 < values[0] < math.inf:
        raise UserError(
            f"training.json: decision.temperature: got {list(values)}, allowed: one number above 0; mend or remove it"
        )
    return values[0]
