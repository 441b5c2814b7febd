"""The state of an unfinished training on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.core.atomic import atomic_folder
from pipeline.core.hashing import file_sha256

KEEP = 2
"""States kept: the newest, and the one before in case the newest turns out damaged."""


def save_state(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write the state of a training as ``folder``: a safetensors file per entry of ``tensors``, and ``state.json``.

    Raises:
        OSError: the disk is full, for example; nothing is left of it.
    """
    with atomic_folder(folder) as part:
        hashes = {}
        for name, group in tensors.items():
            content = to_safetensors({key: tensor.contiguous() for key, tensor in group.items()})
            (part / f"{name}.safetensors").write_bytes(content)
            hashes[f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
        (part / "state.json").write_text(json.dumps({"files": hashes, **state}))


def load_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return the tensors and the rest of a state that `save_state` wrote.

    Raises:
        ValueError: a file is missing or damaged.
    """
    try:
        state = json.loads((folder / "state.json").read_bytes())
        files: dict[str, str] = state.pop("files")
        for name, digest in files.items():
            if file_sha256(folder / name) != digest:
                raise ValueError(f"{name} is damaged")
        return {Path(name).stem: load_file(folder / name) for name in files}, state
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(str(error)) from error


class StateFolder:
    """The saved states of one training, newest last: ``step-000000123``, ...

    They are written in the background; leaving the context waits for the last one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._writer.shutdown()
        if error is None and self._written is not None:
            self._written.result()

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Copy ``tensors``, write the state in the background, then remove all but the newest `KEEP`.

        Waits for the one before, so that no more than one copy is held.
        """
        if self._written is not None:
            self._written.result()
        copies = {
            name: {key: tensor.detach().to("cpu", copy=True) for key, tensor in group.items()}
            for name, group in tensors.items()
        }
        self._written = self._writer.submit(self._write, step, copies, state)

    def _write(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
    ) -> None:
        for leftover in self.folder.glob(".step-*.part"):  # of a process that was killed
            shutil.rmtree(leftover)
        try:
            save_state(self.folder / f"step-{step:09d}", tensors, state)
        except OSError as error:
            # A full disk must not end a training that may still finish; the states before are whole.
            tqdm.write(f"warning: no checkpoint at step {step} in {self.folder}: {error}", file=sys.stderr)
            return
        for old in self._saved()[:-KEEP]:
            shutil.rmtree(old)

    def latest(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """Load the newest whole state, None where there is none; say so and delete it where one is damaged."""
        for folder in reversed(self._saved()):
            try:
                return load_state(folder)
            except ValueError as error:
                print(f"checkpoint {folder.name} is damaged ({error}): resuming from the one before")
                shutil.rmtree(folder)
        return None

    def is_empty(self) -> bool:
        """Return whether there is no state; waits for the one that is being written, which a full disk may spoil."""
        if self._written is not None:
            self._written.result()
        return not self._saved()

    def _saved(self) -> list[Path]:
        return sorted(self.folder.glob("step-" + "[0-9]" * 9))


def state_tensors(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    scaler: torch.amp.GradScaler | None,
) -> dict[str, dict[str, Tensor]]:
    """Return all tensors that a training needs to be resumed, for `StateFolder.save`."""
    tensors = {"network": network.state_dict(), "optimizer": flatten_optimizer(optimizer)}
    if average is not None:
        tensors["average"] = average.state_dict()
    if scaler is not None:
        tensors["scaler"] = {key: torch.tensor(value) for key, value in scaler.state_dict().items()}
    return tensors


def restore_network(
    tensors: Mapping[str, Mapping[str, Tensor]],
    network: nn.Module,
    average: nn.Module | None,
    scaler: torch.amp.GradScaler | None,
) -> None:
    """Load what `state_tensors` gave, but for the optimiser's, which is built when its phase begins."""
    network.load_state_dict(tensors["network"])
    if average is not None:
        average.load_state_dict(tensors["average"])
    if scaler is not None:
        scaler.load_state_dict({key: value.item() for key, value in tensors["scaler"].items()})


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser as named tensors (``<parameter>.<name>``), without its settings."""
    state = optimizer.state_dict()["state"]
    return {
        f"{parameter}.{name}": value
        for parameter, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what `flatten_optimizer` gave."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            # A fused step walks both through memory side by side: channels last must stay channels last.
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
