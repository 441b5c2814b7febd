"""Metrics and mean loss of a network over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pipeline.data.loading.batch import Batch
from pipeline.data.shards.manifest import Manifest
from pipeline.models.inputs import normalise
from pipeline.tasks import task_of
from pipeline.tasks.base import Loss
from pipeline.tasks.metrics import Mean, Metrics, Reduce


@torch.no_grad()
def measure(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    manifest: Manifest,
    loss: Loss,
    device: torch.device,
    sum_over_ranks: Reduce | None = None,
    on_batch: Callable[[Batch, Tensor], None] | None = None,
) -> tuple[Metrics, Mean]:
    """Return the task's metrics and the mean loss over ``batches``, counted per batch and reduced over ranks once.

    ``forward`` takes what `normalise` gives and returns logits; the caller puts the network in evaluation mode.
    ``on_batch`` is shown every batch with its logits.
    """
    task = task_of(manifest)
    metrics = task.metrics(manifest.num_classes, device)
    mean_loss = Mean(device)
    for batch in batches:
        target = batch.target.to(device).long()
        logits = forward(normalise(batch.image.to(device), manifest.mean, manifest.std)).float()
        count = task.count(target)
        mean_loss.update(loss(logits, target) / count.clamp(min=1), count)
        metrics.update(logits, target)
        if on_batch is not None:
            on_batch(batch, logits)
    if sum_over_ranks is not None:
        metrics.reduce(sum_over_ranks)
        mean_loss.reduce(sum_over_ranks)
    return metrics, mean_loss
