"""A network on disk: its weights as safetensors, and a ``config.json`` it can be built from. Nothing runs code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.core.errors import one_line
from pipeline.models import require
from pipeline.models.base import Family, Frozen, NetworkSpec
from pipeline.models.choice import parse_model
from pipeline.models.dry_run import on_meta
from wavemix import ModelConfig
from wavemix.weights import CONFIG_FILE, WEIGHTS_FILE, load_exactly

LARGEST_CONFIG = 1 << 20
"""Bytes of a ``config.json`` at most."""


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


def load_network(folder: Path, size: tuple[int, int]) -> tuple[nn.Module, Family, NetworkSpec]:
    """Return the network that `save_network` wrote, on the CPU and in training mode, its keys and what it is for.

    The config is compared with the header of the weights before any memory is taken, so a config for a network larger
    than its file costs nothing.

    Args:
        folder: it holds ``config.json`` and ``model.safetensors``.
        size: height and width of the images that the network was trained on.

    Raises:
        ValueError: a file is missing or is not what it should be, or weights, config and ``size`` do not fit together.
        UserError: the library that the network comes from is not installed.
    """
    try:
        model, spec = _parse(_read_config(folder / CONFIG_FILE), size)
        require(model)
        model.check(spec)
        with on_meta():
            load_exactly(model.build(spec), _header(folder / WEIGHTS_FILE))
        network = model.build(spec)
        load_exactly(network, load_file(folder / WEIGHTS_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{CONFIG_FILE}: {key}: got {first['input']!r}, {first['msg']}") from None
    except (AssertionError, OSError, RuntimeError, OverflowError, SafetensorError, TypeError) as error:
        raise ValueError(f"a broken {CONFIG_FILE} or {WEIGHTS_FILE}: {one_line(error)}") from error
    return network, model, spec


def _read_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path.name} has more than {LARGEST_CONFIG} bytes: not the config of a network")
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} must hold an object")
    return values


def _parse(values: dict[str, Any], size: tuple[int, int]) -> tuple[Family, NetworkSpec]:
    """Return the keys and the demands that the ``values`` of a ``config.json`` hold, for images of ``size``."""
    if "spec" in values:
        saved = SavedConfig.model_validate_json(json.dumps(values))
        if saved.spec.size != size:
            raise ValueError(f"{CONFIG_FILE} is for images of {saved.spec.size}, not of {size}")
        return parse_model({**saved.params, "family": saved.family}).from_scratch(), saved.spec
    fields = ModelConfig.from_dict(values).to_dict()
    spec = NetworkSpec(
        spatial=fields.pop("task") == "segmentation",
        outputs=fields.pop("num_classes"),
        channels=fields.pop("in_channels"),
        size=size,
        memory=fields.pop("memory"),
    )
    return parse_model(fields), spec


def _header(path: Path) -> dict[str, torch.Tensor]:
    """Return the names and shapes in a safetensors file as tensors on the meta device; reads its header only."""
    with safe_open(path, framework="pt") as file:
        return {
            name: torch.empty(file.get_slice(name).get_shape(), device="meta")
            for name in file.keys()  # noqa: SIM118 - not a dict
        }
