"""A network on disk: its weights as safetensors, and a ``config.json`` it can be built from. Nothing runs code."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.models import require
from pipeline.models.base import Family, Frozen, NetworkSpec
from pipeline.models.choice import parse_model
from pipeline.models.dry_run import on_meta
from wavemix import ModelConfig, build_model
from wavemix.weights import CONFIG_FILE, WEIGHTS_FILE, load_exactly

LARGEST_CONFIG = 1 << 20
"""Bytes of a ``config.json`` at most."""
DATA_FIELDS = {"task", "num_classes", "in_channels", "memory"}
"""Fields of `wavemix.ModelConfig` that are no keys of a family: task, data and training give them."""


class SavedConfig(Frozen):
    """``config.json`` of any family but those of `wavemix`, which keep that library's own form."""

    family: str
    params: dict[str, Any]
    spec: NetworkSpec


def save_network(network: nn.Module, model: Family, spec: NetworkSpec, folder: Path) -> None:
    """Write the weights and the config of ``network`` into ``folder``, which exists.

    Raises:
        OSError: the disk is full, for example.
    """
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = json.dumps(model.saved_config(spec), indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")


def load_network(folder: Path) -> tuple[nn.Module, Family]:
    """Return the network that `save_network` wrote, on the CPU and in training mode, and the keys it was built from.

    The config is compared with the header of the weights before any memory is taken, so a config for a network larger
    than its file costs nothing.

    Raises:
        ValueError: a file is missing or is not what it should be, or the weights do not fit the config.
        UserError: the library that the network comes from is not installed.
    """
    try:
        values = _read_config(folder / CONFIG_FILE)
        model, build = _plan(values)
        with on_meta():
            load_exactly(build(), _header(folder / WEIGHTS_FILE))
        network = build()
        load_exactly(network, load_file(folder / WEIGHTS_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{folder / CONFIG_FILE}: {key}: got {first['input']!r}, {first['msg']}") from None
    except (AssertionError, OSError, RuntimeError, SafetensorError, TypeError) as error:
        raise ValueError(f"{folder} holds a broken {CONFIG_FILE} or {WEIGHTS_FILE}: {error}") from error
    return network, model


def _read_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path} has more than {LARGEST_CONFIG} bytes: not the config of a network")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold an object")
    return values


def _plan(values: dict[str, Any]) -> tuple[Family, Callable[[], nn.Module]]:
    """Return the keys that ``values`` of a ``config.json`` hold, and what builds the network, with random weights."""
    if "spec" in values:
        saved = SavedConfig.model_validate_json(json.dumps(values))
        model = parse_model({**saved.params, "family": saved.family}).from_scratch()
        require(model)
        model.check(saved.spec)
        return model, partial(model.build, saved.spec)
    config = ModelConfig.from_dict(values)
    keys = {key: value for key, value in config.to_dict().items() if key not in DATA_FIELDS}
    return parse_model(keys), partial(build_model, config)


def _header(path: Path) -> dict[str, torch.Tensor]:
    """Return the names and shapes in a safetensors file as tensors on the meta device; reads its header only."""
    with safe_open(path, framework="pt") as file:
        return {
            name: torch.empty(file.get_slice(name).get_shape(), device="meta")
            for name in file.keys()  # noqa: SIM118 - not a dict
        }
