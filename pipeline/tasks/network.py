"""The network of an experiment: the family of params.yaml, for the task and the images of the data."""

from __future__ import annotations

from torch import nn

from pipeline import models
from pipeline.data.shards.manifest import Manifest
from pipeline.models import NetworkSpec
from pipeline.params import Params
from pipeline.tasks import task_of


def network_spec(params: Params, manifest: Manifest) -> NetworkSpec:
    """Return the demands of the task and of the shards of ``manifest`` on the network."""
    return NetworkSpec(
        spatial=manifest.target.spatial,
        outputs=task_of(manifest).outputs(manifest.num_classes),
        channels=manifest.channels,
        size=manifest.size,
        memory=params.train.memory,
    )


def build_network(params: Params, manifest: Manifest) -> nn.Module:
    """Return the network of ``params.model`` for the shards of ``manifest``, freshly initialised.

    Raises:
        UserError: the family's library is missing, or keys, task and images do not go together.
    """
    return models.build_network(params.model, network_spec(params, manifest))
