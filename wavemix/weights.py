"""Weights on disk (safetensors and a config.json, nothing that runs code) and the authors' state dicts."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from wavemix.config import ModelConfig
from wavemix.model import WaveMixLite, build_model

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
LARGEST_CONFIG = 2**16
"""Bytes; `save` writes less than 1,000."""

Shapes = dict[str, tuple[int, ...]]

# The authors' modules, by the position in their nn.Sequential, and ours.
_FEEDFORWARD = {"0": "widen", "3": "narrow", "4": "expansion", "5": "norm"}
_HEAD = {
    "pool.2": "head.linear",
    "expand.0": "head.expand.0",
    "expand.1": "head.expand.1",
    "expand.2": "head.classify",
}


def save(model: nn.Module, folder: str | Path) -> None:
    """Write model.safetensors and config.json, each whole or not at all, for `load` to read.

    Args:
        model: a `WaveMixLite`, as it is or wrapped by `torch.compile`; not a fused one.
        folder: created if missing.

    Raises:
        ValueError: the model is not a `WaveMixLite`, or is fused.
        OSError: the disk is full, for example.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, WaveMixLite):
        raise ValueError(f"only a WaveMixLite can be saved, not a {type(model).__name__}")
    if model.fused:
        raise ValueError("a fused model is for inference only: save the model that fuse() was called on")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    content = to_safetensors(state, metadata={"format": "pt"})
    config = json.dumps(model.config.to_dict(), indent=2) + "\n"
    _replace(folder / WEIGHTS_FILE, lambda path: path.write_bytes(content))
    _replace(folder / CONFIG_FILE, lambda path: path.write_text(config, encoding="utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(folder: str | Path) -> WaveMixLite:
    """Load the network that `save` (or `WaveMixLite.save_pretrained`) wrote, on the CPU, in training mode.

    The files need not be trusted: nothing in them runs, and the config is compared with the names and shapes of
    the weights before it can cost memory or time.

    Raises:
        ValueError: a file is missing or is not what it should be, or the weights do not fit the config.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}; wavemix.save(model, folder) writes it")
    return load_weights(_read_config(folder / CONFIG_FILE), folder / WEIGHTS_FILE)


def load_weights(config: ModelConfig, path: Path) -> WaveMixLite:
    """Build the network of `config` with the weights in a safetensors file.

    Raises:
        ValueError: the file is broken or its weights do not fit the config; noticed before the network is built.
    """
    try:
        _check_shapes(config, _read_shapes(path))
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path.parent} holds a broken {path.name}: {error}") from error
    model = build_model(config)
    load_exactly(model, state)
    return model


def _read_config(path: Path) -> ModelConfig:
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path} is larger than {LARGEST_CONFIG} bytes: it is not the config of a network")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.parent} holds a broken {CONFIG_FILE}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold an object with the fields of ModelConfig")
    return ModelConfig.from_dict(values)


def _read_shapes(path: Path) -> Shapes:
    """Read the header alone."""
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _check_shapes(config: ModelConfig, shapes: Shapes) -> None:
    """Raise ValueError unless a network of this config has tensors of these names and shapes; allocate nothing."""
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    if config.depth != len(blocks):
        raise ValueError(f"the config is of {config.depth} blocks, the weights of {len(blocks)}")
    try:
        with torch.device("meta"):
            expected = _shapes_of(build_model(config).state_dict())
    except RuntimeError as error:  # more numbers in one tensor than can be counted
        raise ValueError(f"the config is of a network too large to build: {error}") from error
    _check_same(expected, shapes)


def load_exactly(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict in which every tensor fits, or change nothing.

    Raises:
        ValueError: names the tensors that are missing, left over, of another shape or kind of number, or that
            hold NaN or infinity. Of tensors on the meta device only names and shapes are compared.
    """
    own = model.state_dict()
    _check_same(_shapes_of(own), _shapes_of(state))
    for name, tensor in state.items():
        if tensor.is_meta:
            continue  # no more than a shape
        if tensor.is_floating_point() != own[name].is_floating_point() or tensor.is_complex():
            raise ValueError(f"the weights are broken: {name} is of {tensor.dtype}, not {own[name].dtype}")
        if not tensor.isfinite().all():
            raise ValueError(f"the weights are broken: {name} holds NaN or infinity")
    model.load_state_dict(state)


def _shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _check_same(expected: Shapes, shapes: Shapes) -> None:
    differences = {
        "missing": [name for name in expected if name not in shapes],
        "left over": [name for name in shapes if name not in expected],
        "of another shape": [
            f"{name} {shapes[name]} instead of {expected[name]}"
            for name in expected
            if name in shapes and shapes[name] != expected[name]
        ],
    }
    if any(differences.values()):
        found = "; ".join(
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if names[3:] else ''})"
            for what, names in differences.items()
            if names
        )
        raise ValueError(f"the weights fit another model than this one: {found}")


def load_authors_state_dict(model: WaveMixLite, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights with the keys of the authors' public classes; the model then gives their logits.

    Both of their networks load (the full one into family "wavemix"): 1 to 4 levels, strided or patch stem,
    classification and segmentation, with or without a DataParallel wrapper.

    Raises:
        ValueError: a key that none of their classes has, or weights of another model than this one.
    """
    load_exactly(model, {_our_name(name): tensor for name, tensor in state_dict.items()})


def _our_name(name: str) -> str:
    """Return our name for the tensor that the authors call `name`."""
    module, _, tensor = name.removeprefix("module.").rpartition(".")
    if block := re.fullmatch(r"layers\.(\d+)\.reduction", module):
        return f"blocks.{block[1]}.reduction.{tensor}"
    if block := re.fullmatch(r"layers\.(\d+)\.feedforward([1-4]?)\.([0345])", module):
        return f"blocks.{block[1]}.feedforwards.{block[2] or 1}.{_FEEDFORWARD[block[3]]}.{tensor}"
    if stem := re.fullmatch(r"conv\.([0124])", module):
        return f"stem.{stem[1]}.{tensor}"
    if module in _HEAD:
        return f"{_HEAD[module]}.{tensor}"
    raise ValueError(
        f"{name!r} is no tensor of the authors' WaveMix classes (layers.*, conv.*, pool.2, expand.*)"
    )
