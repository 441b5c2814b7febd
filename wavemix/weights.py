"""Weights on disk (safetensors and a config.json, nothing that runs code) and the authors' state dicts."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from wavemix.config import ModelConfig
from wavemix.model import WaveMixLite, build_model

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

# The authors' modules, by the position in their nn.Sequential, and ours.
_FEEDFORWARD = {"0": "widen", "3": "narrow", "4": "expansion", "5": "norm"}
_HEAD = {
    "pool.2": "head.linear",
    "expand.0": "head.expand.0",
    "expand.1": "head.expand.1",
    "expand.2": "head.classify",
}


def save(model: nn.Module, folder: str | Path) -> None:
    """Writes model.safetensors and config.json, each whole or not at all, that `load` reads.

    Args:
        model: a `WaveMixLite`, as it is or wrapped by `torch.compile`; not a fused one.
        folder: made where missing.

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
    """The network that `save` (or `WaveMixLite.save_pretrained`) wrote, on the CPU, in training mode.

    Raises:
        ValueError: a file is missing or is not what it should be, or the weights do not fit the config.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}; wavemix.save(model, folder) writes it")
    try:
        values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS_FILE)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds a broken {CONFIG_FILE} or {WEIGHTS_FILE}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{folder / CONFIG_FILE} must hold an object with the fields of ModelConfig")
    model = build_model(ModelConfig.from_dict(values))
    load_exactly(model, state)
    return model


def load_exactly(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict in which every tensor fits, or changes nothing.

    Raises:
        ValueError: names the tensors that are missing, left over or of another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
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
    model.load_state_dict(state)


def load_authors_state_dict(model: WaveMixLite, state_dict: Mapping[str, Tensor]) -> None:
    """Loads weights with the keys of the authors' public classes; the model then gives their logits.

    Both of their networks with 1 to 4 levels load (their full one into family "wavemix"), with the strided
    or the patch stem, for classification and segmentation, also out of a DataParallel wrapper.

    Raises:
        ValueError: a key that none of their classes has, or weights of another model than this one.
    """
    load_exactly(model, {_our_name(name): tensor for name, tensor in state_dict.items()})


def _our_name(name: str) -> str:
    """Our name for the tensor that the authors call `name`."""
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
