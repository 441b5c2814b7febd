"""One split, measured."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.evaluate.examples import Guesses, Scenes
from pipeline.evaluate.full_resolution import FullResolution
from pipeline.tasks.metrics import Metrics


@dataclass(frozen=True)
class SplitResult:
    """One split, measured: ``figures`` by name, ``loss`` per target, ``seconds`` for all of it."""

    split: str
    metrics: Metrics
    loss: float
    samples: int
    seconds: float
    examples: Guesses | Scenes
    original: FullResolution | None = None

    @property
    def figures(self) -> dict[str, float]:
        original = self.original.compute() if self.original else {}
        return {**self.metrics.compute(), **original, "loss": self.loss}
