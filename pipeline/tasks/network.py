"""The network of an experiment: the family of params.yaml, for the task and the images of the data."""

from __future__ import annotations

from torch import nn

from pipeline import models
from pipeline.core.errors import UserError
from pipeline.data.loading.augmentation import evaluated_size
from pipeline.data.shards.manifest import Manifest
from pipeline.models import Family, NetworkSpec
from pipeline.models.batch_norm import batch_norms
from pipeline.models.dry_run import meta_network, smallest_batch
from pipeline.params import Params
from pipeline.tasks import task_of


def network_spec(params: Params, manifest: Manifest) -> NetworkSpec:
    """Return the demands of the task, of the shards of ``manifest`` and of crops of them on the network.

    Raises:
        UserError: ``train.augment`` cannot be.
    """
    return NetworkSpec(
        spatial=manifest.target.spatial,
        outputs=task_of(manifest).outputs(manifest.num_classes),
        channels=manifest.channels,
        size=evaluated_size(params.train.augment, manifest, params.train.seed),
        memory=params.train.memory,
    )


def build_network(params: Params, manifest: Manifest) -> nn.Module:
    """Return the network of ``params.model`` for the shards of ``manifest``, freshly initialised.

    Raises:
        UserError: the family's library is missing, or keys, task, images and batches do not go together.
    """
    spec = network_spec(params, manifest)
    check_images(params, manifest, spec)
    check_statistics(params, spec)
    _check_batches(params, manifest, spec)
    return params.model.build(spec)


def check_images(params: Params, manifest: Manifest, spec: NetworkSpec) -> None:
    """Refuse images of ``spec`` that the network does not take; where they are crops of the shards', says so.

    Raises:
        UserError: see above.
    """
    try:
        models.check_network(params.model, spec)
    except UserError as error:
        if spec.size == manifest.size:
            raise
        raise UserError(f"train.augment: crops of {spec.size[0]}x{spec.size[1]}: {error}") from None


def has_batch_norm(model: Family, spec: NetworkSpec) -> bool:
    """Return whether the network has statistics that ``train.precise_bn`` could recompute."""
    return bool(batch_norms(meta_network(model, spec)))


def check_statistics(params: Params, spec: NetworkSpec) -> None:
    """Refuse ``train.precise_bn`` for a network without batch norm.

    Raises:
        UserError: see above.
    """
    wanted = params.train.precise_bn
    if wanted and not has_batch_norm(params.model, spec):
        raise UserError(
            f"train.precise_bn: got {wanted}, but {params.model.label} has no batch norm; allowed for it: 0"
        )


def _check_batches(params: Params, manifest: Manifest, spec: NetworkSpec) -> None:
    """Refuse batches of which a part of one image is left, where the network cannot be trained on one."""
    batch_size, split = params.train.batch_size, manifest.splits.get("train")
    if batch_size == "auto" or split is None:
        return
    lengths = {min(batch_size, split.samples), split.samples % batch_size} - {0}
    part = max(1, min(lengths, default=1) // params.train.accumulate)
    if part == 1 and smallest_batch(params.model, spec) > part:
        height, width = spec.size
        raise UserError(
            f"train.batch_size: got {batch_size}, which leaves a step a single image of the {split.samples} samples of "
            f"train, but at {height}x{width} the batch norms of {params.model.label} see maps of one pixel and need "
            "two; take another batch_size, train.accumulate or train.size"
        )
