"""Networks trained beside each other: the same data, the same recipe, the same seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compare.costs import Costs, Setting, read_record
from pipeline.compare.entrants import Entrant, read_entrants
from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash, file_sha256
from pipeline.core.locks import exclusive_lock
from pipeline.core.paths import work_folder
from pipeline.core.yaml_file import read_yaml
from pipeline.data.shards.folds import one_fold
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.params import Params, load_params
from pipeline.tasks import task_of
from pipeline.tracking import names
from pipeline.tracking.run import Tracker


@dataclass(frozen=True)
class Result:
    """One training that ended."""

    seed: int
    curve: tuple[float, ...]
    """Accuracy on val after each epoch."""
    seconds: float
    """Of training and validation."""
    run_id: str | None
    """In MLflow."""

    @classmethod
    def read(cls, path: Path) -> Result:
        """Return the result in the file ``path``."""
        content: dict[str, Any] = json.loads(path.read_text())
        curve = {int(epoch): value for epoch, value in content["curve"].items()}
        values = tuple(curve[epoch] for epoch in sorted(curve))
        return cls(content["seed"], values, content["seconds"], content["run_id"])


@dataclass(frozen=True)
class Comparison:
    """One comparison: who takes part, on what data, and where its records lie."""

    params: Params
    """The recipe; its model takes no part."""
    manifest: Manifest
    entrants: Sequence[Entrant]
    minutes: float | None
    folder: Path
    """Of its records: costs, results, the run in MLflow."""
    work: Path
    """Of locks and of trainings under way, on this machine."""

    @property
    def metric(self) -> str:
        """The accuracy: the task's metric on val."""
        return task_of(self.manifest).metric

    @property
    def seeds(self) -> range:
        return range(self.params.train.seed, self.params.train.seed + self.params.train.repeats)

    @property
    def setting(self) -> Setting:
        """How the networks are measured: as they are trained."""
        machine, train = self.params.machine, self.params.train
        return Setting.choose(machine.device, train.amp, machine.compile, train.resolved_batch_size)

    def measured(self) -> tuple[dict[str, Any], Costs]:
        """Return where the networks were measured, perhaps on another machine, and what they cost there."""
        return read_record(self.folder / "costs.json")

    def results(self, entrant: Entrant) -> list[Result]:
        """Return the trainings of ``entrant`` that ended, by seed."""
        found = (self.result_file(entrant, seed) for seed in self.seeds)
        return [Result.read(path) for path in found if path.exists()]

    def result_file(self, entrant: Entrant, seed: int) -> Path:
        """Return the file of the result of one training."""
        return self.folder / f"{entrant.key}-seed{seed}.json"

    @property
    def run_id(self) -> str | None:
        """The run in MLflow that the trainings' runs belong to."""
        path = self.folder / "run_id"
        return path.read_text() if path.exists() else None

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no other process of this machine claims a training or writes to the run."""
        return exclusive_lock(self.work / "claims.lock", wait=True, quietly=True)

    def tracker(self) -> Tracker:
        """Return what writes to that run."""
        return Tracker(names.tracking_uri(self.params), self.params.data, self.work / "mlflow")


def open_comparison(path: Path, rows: Sequence[str], minutes: float | None, out: Path) -> Comparison:
    """Read the comparison that ``path``, a params.yaml, describes.

    Args:
        rows: of the paper, in place of ``compare.networks``.
        minutes: in place of ``compare.minutes``, where it is not None.
        out: folder below which its records lie.

    Raises:
        UserError: something in ``path`` cannot be compared, or the data is not prepared.
    """
    params = load_params(path)
    settings = params.compare
    wanted: Sequence[str | dict[str, Any]] = rows or (settings.networks if settings else ())
    if not wanted:
        raise UserError(
            "compare: no networks; name rows of `wavemix paper list`, or add a section to params.yaml, as in "
            "compare: {networks: [cifar10 32/7, {family: resnet, depth: 18}]}"
        )
    if params.train.batch_size == "auto":
        raise UserError("train.batch_size: got auto, which differs between networks; name a number")
    names.tracking_uri(params)  # a store that MLflow cannot use is refused before any work
    folder = shards_folder(params.data, params.size)
    manifest = one_fold(read_manifest(folder), params.train.fold, "compare")
    manifest.check_trainable()
    entrants = read_entrants(wanted, read_yaml(path), manifest)
    if minutes is None and settings is not None:
        minutes = settings.minutes
    recipe = params.train.model_copy(update={"seed": 0, "repeats": 1})
    name = f"{params.data}-{configuration_hash(recipe, minutes, file_sha256(folder / FILE_NAME))}"
    return Comparison(params, manifest, entrants, minutes, out / name, work_folder("compare", name))
