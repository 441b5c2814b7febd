"""The weights of an earlier training, as the start of another (``train.pretrained``)."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from pipeline.checkpoints.trained import load_trained
from pipeline.core.errors import UserError
from pipeline.core.hashing import file_sha256
from pipeline.data.shards.manifest import Manifest
from wavemix.weights import WEIGHTS_FILE, load_exactly


def start_from(folder: Path, network: nn.Module, head: tuple[str, ...], manifest: Manifest) -> bool:
    """Put the weights of the trained network in ``folder`` into ``network``, which is for the shards of ``manifest``.

    Where the two differ in task or classes, the weights whose names start with one of ``head`` stay as they are.
    Returns whether all of them fitted.

    Raises:
        UserError: there is no trained network, or one of another size.
    """
    pretrained, _, trained = load_trained(folder)
    state = pretrained.state_dict()
    same = (trained.task, trained.class_names) == (manifest.task, manifest.class_names)
    if not same:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
        state |= {name: tensor for name, tensor in network.state_dict().items() if name.startswith(head)}
    try:
        load_exactly(network, state)
    except ValueError as error:
        raise UserError(
            f"train.pretrained: {folder}: {error}; make params.yaml's model that of {folder / 'config.json'}"
        ) from None
    return same


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of the weights in ``folder``, by which a training knows what it started from.

    Raises:
        UserError: there are none.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(
            f"train.pretrained: {folder}: no trained network here (no {path.name}); copy a checkpoints/best there"
        )
    return file_sha256(path)
