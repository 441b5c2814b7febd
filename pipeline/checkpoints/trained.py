"""A trained network on disk: weights, config and description."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from pipeline.core.atomic import atomic_folder
from pipeline.core.errors import UserError, one_line
from pipeline.data.shards.layout import Filter, Geometry
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.targets import TARGETS
from pipeline.models import Family, NetworkSpec
from pipeline.models.storage import load_network, save_network

DESCRIPTION = "training.json"


class Trained(BaseModel):
    """``training.json``, beside the weights: all one needs to use them (``mean`` and ``std`` for [0, 1] pixels)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    task: str
    class_names: list[str]
    palette: list[tuple[int, int, int]] | None
    size: tuple[int, int]
    """Height and width of the images that the network takes."""
    resized: tuple[int, int] | None = None
    """Those that an image is resized to before its middle of `size` is taken; None where it is `size`."""
    channels: int
    filter: Filter
    geometry: Geometry
    mean: list[float]
    std: list[float]
    parameters: int
    epoch: int
    step: int
    metric: str
    value: float
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None
    """Of MLflow; it names folders, so nothing else is taken."""
    batch_size: int | None = None
    """Samples in a training step, over all processes; the number that auto stood for. None in old files."""
    decision: dict[str, list[float]] = {}
    """What the task's decision needs besides the logits (`Task.decide`)."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Fold of the data that was val."""
    precise_bn: Annotated[int, Field(ge=0)] = 0
    """Training batches that batch norm's statistics were recomputed over; 0: they are the training's running ones."""

    @property
    def prepared_size(self) -> tuple[int, int]:
        """Height and width that images are resized to."""
        return self.resized or self.size


def describe(
    manifest: Manifest,
    *,
    size: tuple[int, int] | None = None,
    parameters: int,
    epoch: int,
    step: int,
    metric: str,
    value: float,
    run_id: str | None,
    batch_size: int | None = None,
    decision: dict[str, list[float]] | None = None,
    precise_bn: int = 0,
) -> Trained:
    """Return the description of a network for images of ``size``, trained on the shards of ``manifest``.

    Args:
        size: height and width; None where they are the shards'.
    """
    return Trained(
        data=manifest.dataset,
        size=size or manifest.size,
        resized=None if size in (None, manifest.size) else manifest.size,
        parameters=parameters,
        epoch=epoch,
        step=step,
        metric=metric,
        value=value,
        run_id=run_id,
        batch_size=batch_size,
        decision=decision or {},
        precise_bn=precise_bn,
        fold=manifest.fold,
        **manifest.model_dump(
            include={
                "task",
                "class_names",
                "palette",
                "channels",
                "filter",
                "geometry",
                "mean",
                "std",
            }
        ),
    )


class Loaded(NamedTuple):
    """A trained network in memory."""

    network: nn.Module
    """On the CPU, in evaluation mode."""
    model: Family
    """The keys that it was built from."""
    trained: Trained

    def for_inference(self) -> nn.Module:
        """Return the network in its family's form for inference, which gives the same logits."""
        return self.model.for_inference(self.network)


def save_trained(
    network: nn.Module, model: Family, spec: NetworkSpec, trained: Trained, folder: Path
) -> None:
    """Write a trained network as ``folder``, whole or not at all."""
    with atomic_folder(folder) as part:
        save_network(network, model, spec, part)
        (part / DESCRIPTION).write_text(trained.model_dump_json(indent=2) + "\n")


def load_trained(folder: Path) -> Loaded:
    """Return the network in ``folder`` and its description.

    Raises:
        UserError: there is none, or a file of it is damaged.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        raise UserError(f"{folder}: no trained network here (no {DESCRIPTION}); run `uv run dvc repro`")
    try:
        trained = Trained.model_validate_json(path.read_bytes())
        network, model, spec = load_network(folder, trained.size)
        _check(trained, spec)
        return Loaded(network.eval(), model, trained)
    except (ValidationError, ValueError, OSError) as error:
        raise UserError(f"{folder}: not a whole trained network: {one_line(error)}") from None


def _check(trained: Trained, spec: NetworkSpec) -> None:
    """Refuse a description of another network than the one for ``spec``.

    Raises:
        ValueError: says what differs.
    """
    spatial = trained.task in TARGETS and TARGETS[trained.task].spatial
    outputs = len(trained.class_names) + (1 if spatial else 0)  # one for void, see `pipeline.tasks.TASKS`
    told = (spatial, outputs, trained.channels)
    if not trained.class_names or told != (spec.spatial, spec.outputs, spec.channels):
        raise ValueError(
            f"{DESCRIPTION} tells of {trained.task} with {len(trained.class_names)} classes and {trained.channels} "
            f"channels, the network is another: {spec.model_dump_json(exclude={'size', 'memory'})}"
        )
    if not len(trained.mean) == len(trained.std) == trained.channels or not all(
        0 < deviation < math.inf for deviation in trained.std
    ):
        raise ValueError(f"{DESCRIPTION}: mean and std must have {trained.channels} values, std above 0")
