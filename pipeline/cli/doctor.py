"""``wavemix doctor``: describe the machine for a bug report, and name what is wrong with it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch

from pipeline.core.device import choose_compile, choose_device, choose_precision
from pipeline.core.errors import UserError, one_line, printable
from pipeline.core.paths import project_folder
from pipeline.core.redact import without_credentials
from pipeline.data.loading.augmentation import build_augment
from pipeline.data.loading.memory import split_bytes
from pipeline.data.loading.open_loader import choose_cache
from pipeline.data.shards.folds import chosen_folds, of_fold
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import FILE_NAME, read_manifest
from pipeline.params import Params, load_params
from pipeline.tracking.names import tracking_uri

PACKAGES = ("wavemix-lite-pipeline", "torch", "accelerate", "mlflow", "dvc", "webdataset", "albumentations")
COMMAND_SECONDS = 60.0
"""A program that takes longer is taken to hang."""
LOW_MEMORY = LOW_DISK = 2e9
"""Bytes; with less free, training and preparing are likely to fail."""

Finding = tuple[str, str]
"""A heading and what was found."""


class Problem(Exception):
    """Something that would keep a stage from its work, in one line."""


def doctor() -> list[str]:
    """Print what was found, a line each, and return the problems, a line each."""
    problems = []
    for heading, look in CHECKS.items():
        try:
            for name, found in look():
                print(f"{name:<22} {printable(without_credentials(found))}")
        except (Problem, UserError) as error:
            problems.append(f"{heading}: {one_line(error)}")
            print(f"{heading:<22} PROBLEM, see below")
    return problems


def _versions() -> Iterator[Finding]:
    yield "system", f"{platform.platform()}, Python {platform.python_version()}"
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _devices() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    yield "cpu", f"{platform.processor() or platform.machine()}, {cores} cores, {capability}"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        yield (
            f"cuda:{index}",
            f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
            f"bf16 {'yes' if native else 'no'}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free",
        )
    if not torch.cuda.is_available():
        yield "cuda", "none" if torch.version.cuda else "this build of torch has no CUDA"


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield "memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < LOW_MEMORY:
        raise Problem(f"only {memory.available / 1e9:.1f} GB are free; close other programs")


def _disk() -> Iterator[Finding]:
    folder = project_folder()
    disk = shutil.disk_usage(folder)
    yield "disk", f"{disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB free in {folder}"
    if disk.free < LOW_DISK:
        raise Problem(f"only {disk.free / 1e9:.1f} GB are free in {folder}; make room")


def _choices() -> Iterator[Finding]:
    params = _params()
    device = choose_device(params.machine.device)
    yield "machine.device", f"{params.machine.device}: {device.type}"
    yield "train.amp", f"{params.train.amp}: {choose_precision(params.train.amp, device)} on {device.type}"
    compiled = choose_compile(params.machine.compile, device)
    yield (
        "machine.compile",
        f"{params.machine.compile}: {'on' if compiled else 'off'} (auto compiles on a GPU)",
    )
    yield "machine.cache", f"{params.machine.cache}: {_cache(params, device)}"


def _cache(params: Params, device: torch.device) -> str:
    """Return where the training split of ``params`` is put, and why."""
    if params.machine.cache != "auto":
        return params.machine.cache
    folder = shards_folder(params.data, params.size)
    if not (folder / FILE_NAME).exists():
        return f"device, host or stream, by the size of the training split; {params.data} is not prepared"
    prepared = read_manifest(folder)
    manifest = of_fold(prepared, chosen_folds(prepared, params.train.fold)[0])
    augment = build_augment(params.train.augment, manifest, params.train.seed)
    place = choose_cache(manifest, device, augment is not None and augment.on_host)
    return f"{place} ({params.data}'s training split has {split_bytes(manifest, 'train') / 1e9:.3g} GB)"


def _programs() -> Iterator[Finding]:
    yield "git", _answer(["git", "--version"], "install it from your system's packages")
    yield "dvc program", _answer([sys.executable, "-m", "dvc", "--version"], "run `uv sync`")


def _repository() -> Iterator[Finding]:
    folder = project_folder()
    if not (folder / "dvc.yaml").exists():
        raise Problem(f"no dvc.yaml at or above {folder}; change to the repository")
    if not (folder / ".git").exists():
        raise Problem(
            f"{folder} is no git checkout, which DVC looks for: run `git init` in it, or "
            "`uv run dvc config --local core.no_scm true`"
        )
    dirty = _answer(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"], "repair it")
    commit = _answer(
        ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"], "commit once: DVC needs that"
    )
    yield "repository", f"{folder} at {commit}{', changed' if dirty else ''}"


def _store() -> Iterator[Finding]:
    from pipeline.tracking.store import list_runs

    uri = tracking_uri(_params())
    yield "mlflow store", f"{uri}: {len(list_runs(uri))} runs"


def _params() -> Params:
    return load_params(project_folder() / "params.yaml")


def _answer(command: list[str], advice: str) -> str:
    """Return the first line that ``command`` prints.

    Raises:
        Problem: it is not installed, fails or hangs; ``advice`` says what to do.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
    except FileNotFoundError:
        raise Problem(f"{command[0]} is not installed; {advice}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise Problem(f"`{' '.join(command)}` failed ({one_line(error)}); {advice}") from None
    return next(iter(done.stdout.splitlines()), "")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": _versions,
    "devices": _devices,
    "memory": _memory,
    "disk": _disk,
    "programs": _programs,
    "repository": _repository,
    "params": _choices,
    "mlflow": _store,
}
