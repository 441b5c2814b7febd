"""Trainings of equal time: the phases of a recipe, drawn out or shortened to what a network's speed allows."""

from __future__ import annotations

from typing import TypeVar

from pipeline.compare.costs import Cost
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Duration, Params

Length = TypeVar("Length", bound=Duration)


def epoch_seconds(cost: Cost, params: Params, manifest: Manifest) -> float:
    """Return how long an epoch and its validation take at the measured speed.

    Recomputing batch norm's statistics (``train.precise_bn``) is reckoned as so many batches of inference.
    """
    recomputed = params.train.precise_bn * params.train.resolved_batch_size
    forward = manifest.split("val").samples + recomputed
    return manifest.split("train").samples / cost.figure("training") + forward / cost.figure("inference")


def fill(params: Params, manifest: Manifest, seconds: float, an_epoch: float) -> Params:
    """Return ``params`` with all phases drawn out or shortened alike, so that they take ``seconds`` together.

    Args:
        an_epoch: seconds of an epoch and its validation.
    """
    samples, batch = manifest.split("train").samples, params.train.resolved_batch_size
    lengths = [_epochs(phase, samples, batch) for phase in params.train.phases]
    factor = seconds / an_epoch / sum(lengths)

    def scaled(duration: Length) -> Length:
        epochs = round(factor * _epochs(duration, samples, batch), 4)
        return duration.model_copy(update={"epochs": max(epochs, 1e-4), "steps": None, "samples": None})

    phases = tuple(
        scaled(phase).model_copy(update={"warmup": scaled(phase.warmup) if phase.warmup else None})
        for phase in params.train.phases
    )
    return params.model_copy(update={"train": params.train.model_copy(update={"phases": phases})})


def _epochs(duration: Duration, samples: int, batch: int) -> float:
    if duration.epochs is not None:
        return duration.epochs
    return (duration.samples or (duration.steps or 0) * batch) / samples
