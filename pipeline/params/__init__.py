"""``params.yaml`` as frozen, validated, typed objects.

The YAML reader is the one DVC uses (YAML 1.2: ``1e-3`` is a number), so both see the same values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core.errors import UserError, did_you_mean
from pipeline.core.paths import repository_root
from pipeline.core.validation import explain
from pipeline.core.yaml_file import read_yaml
from pipeline.models import ModelParams
from pipeline.params.compare import CompareParams
from pipeline.params.search import SearchParams
from pipeline.params.sections import (
    DatasetName,
    DatasetParams,
    Duration,
    EvaluateParams,
    MachineParams,
    MixParams,
    Phase,
    Section,
    Size,
    TrainParams,
)

__all__ = [
    "CompareParams",
    "DatasetParams",
    "Duration",
    "MachineParams",
    "MixParams",
    "Params",
    "Phase",
    "SearchParams",
    "TrainParams",
    "load_params",
    "parse_params",
]


class Params(Section):
    """All of ``params.yaml``."""

    data: str
    """The dataset to prepare and train on, by its name under ``datasets``."""
    datasets: dict[DatasetName, DatasetParams]
    """How each dataset is read and prepared, by name."""
    model: ModelParams
    """The network: ``family`` (wavemix-lite when left out) and the keys of that family."""
    train: TrainParams
    """How the network is trained."""
    evaluate: EvaluateParams = EvaluateParams()
    """How the trained network is judged."""
    search: SearchParams | None = None
    """What `wavemix search` varies, and for how long."""
    compare: CompareParams | None = None
    """The networks that `wavemix compare` trains beside each other."""
    machine: MachineParams = MachineParams()
    """What only changes the machine, never the result."""

    @property
    def dataset(self) -> DatasetParams:
        """The dataset that ``data`` names."""
        return self.datasets[self.data]

    @property
    def size(self) -> Size:
        """The size (height, width) to train on.

        Raises:
            UserError: it is not one of the dataset's sizes.
        """
        size = self.train.size or self.dataset.sizes[0]
        if size not in self.dataset.sizes:
            raise UserError(
                f"train.size: got {list(size)}, allowed: {', '.join(str(list(s)) for s in self.dataset.sizes)}; "
                f"or add it to datasets.{self.data}.sizes"
            )
        return size

    @property
    def pretrained(self) -> Path | None:
        """The folder that ``train.pretrained`` names; a relative path starts at the repository."""
        folder = self.train.pretrained
        return None if folder is None else repository_root() / Path(folder).expanduser()

    def named(self, data: str) -> DatasetParams:
        """Return the dataset called ``data``.

        Raises:
            UserError: there is none.
        """
        if data not in self.datasets:
            raise UserError(
                f"dataset: got {data!r}{did_you_mean(data, self.datasets)}, "
                f"allowed: {', '.join(self.datasets)}"
            )
        return self.datasets[data]

    def root(self, data: str) -> str:
        """Return path or fsspec URL of the raw files of dataset ``data``; relative paths start at the repository."""
        root = self.machine.roots.get(data, f"data/raw/{data}")
        return root if "://" in root else str(repository_root() / Path(root).expanduser())


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate ``path``.

    Raises:
        UserError: the file is missing, is not YAML, or a value is not allowed.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the repository's top folder") from None
    return parse_params(values, str(path))


def parse_params(values: Any, name: str = "params.yaml") -> Params:
    """Validate ``values`` as read from YAML.

    Raises:
        UserError: names the first key whose value is not allowed, what was got and what is allowed.
    """
    try:
        params = Params.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(f"{name}: {explain(error, Params)}") from None
    if params.data not in params.datasets:
        raise UserError(
            f"{name}: data: got {params.data!r}{did_you_mean(params.data, params.datasets)}, "
            f"allowed: {', '.join(params.datasets)}; or add it under datasets:"
        )
    return params
