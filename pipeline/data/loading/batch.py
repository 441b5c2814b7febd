"""Batches and samples in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """``image`` uint8 (B, H, W, C) in RGB; ``target`` as `TargetKind.empty` has it: int64 (B,) classes, say."""

    image: Tensor
    target: Tensor


@dataclass(frozen=True)
class Samples:
    """A whole split in memory: ``images`` uint8 (N, H, W, C); ``targets`` int64 (N,) or uint8 (N, H, W)."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Batch:
        """Return the samples at ``indices`` (int64 (B,)), copied."""
        # Some four times as fast as indexing with a tensor, which works pixel by pixel.
        return Batch(self.images.index_select(0, indices), self.targets.index_select(0, indices))
