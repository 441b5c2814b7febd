"""Trained networks in MLflow: logged so that they can be served, registered, found again."""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from pipeline.checkpoints.trained import DESCRIPTION, Trained
from pipeline.core.errors import UserError, one_line
from pipeline.core.redact import without_credentials
from pipeline.tracking.client import connect

CHAMPION = "champion"
"""The alias of a registered model's best version."""
SERVING_PACKAGES = (
    "mlflow", "torch", "torchvision", "numpy", "pandas", "pillow", "opencv-python-headless", "simplejpeg",
    "safetensors", "pydantic", "huggingface-hub", "pytorch-wavelets", "PyWavelets", "ruamel.yaml",
    "matplotlib", "setuptools",
)  # fmt: skip
"""What a serving environment needs beside the logged code; the versions are those in use when it is logged."""


def model_name(data: str) -> str:
    """Return the name of the registered model that all networks for one data set are versions of."""
    return "wavemix-lite-" + re.sub(
        r"[/:'\"%]", "-", data
    )  # MLflow refuses some of these, and others end a filter


@dataclass(frozen=True)
class ServedNetwork:
    """A trained network with all that MLflow needs to serve and to compare it."""

    checkpoint: Path
    """The folder that `save_trained` wrote."""
    trained: Trained
    code: Path
    """The file that MLflow runs as the model."""
    sources: Mapping[str, Path]
    """The modules that ``code`` imports, by dotted name; nothing else of ours is shipped."""
    columns: Mapping[str, str]
    """Columns of an answer and their types: string, double, names (of strings) or values (doubles)."""
    examples: Sequence[str]
    """Image files as base64 text, the input example."""
    libraries: Sequence[str] = ()
    """Import names of the libraries that its family takes the network from."""


def register_network(client: Any, run_id: str, network: ServedNetwork) -> str:
    """Log the network as a model that `mlflow models serve` answers with, register and promote it.

    Registering the same checkpoint of a run again changes nothing.

    Args:
        client: an MLflow client.

    Returns:
        A line that says what became of it.
    """
    trained = network.trained
    name = model_name(trained.data)
    known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    entry = next((entry for entry in known if entry.tags.get("step") == str(trained.step)), None)
    if entry is None:
        import mlflow

        tags = {"step": str(trained.step), "metric": trained.metric, "value": f"{trained.value:.6f}"}
        entry = mlflow.register_model(_log_model(run_id, network), name, tags=tags)
    return f"registered {name} version {entry.version}; {_promote(client, name, entry.version, trained)}"


def _log_model(run_id: str, network: ServedNetwork) -> str:
    """Log the network to the run and return its address in the store."""
    import mlflow
    import pandas as pd

    trained = network.trained
    with tempfile.TemporaryDirectory(prefix="wavemix-code-") as folder, mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(network.code),
            artifacts={"checkpoint": str(network.checkpoint)},
            code_paths=_copy_sources(network.sources, Path(folder)),
            signature=_signature(network.columns),
            input_example=pd.DataFrame({"image": list(network.examples)}),
            conda_env=_environment(network.libraries),
            metadata={"task": trained.task, "data": trained.data, "parameters": trained.parameters},
        )
    uri: str = logged.model_uri
    return uri


def _copy_sources(sources: Mapping[str, Path], folder: Path) -> list[str]:
    """Copy the modules to ``folder`` as importable packages, and return the topmost ones."""
    for name, path in sources.items():
        copy = folder.joinpath(*name.split("."), path.name) if path.name == "__init__.py" else None
        copy = copy or folder.joinpath(*name.split(".")).with_suffix(".py")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return sorted(map(str, folder.iterdir()))


def _promote(client: Any, name: str, number: str, trained: Trained) -> str:
    """Move the alias to version ``number`` if its validation is better; return what was done."""
    ours = f"{trained.metric} {trained.value:.4f}"
    champions = client.get_registered_model(name).aliases
    if CHAMPION in champions:
        champion = client.get_model_version_by_alias(name, CHAMPION)
        if str(champion.version) == str(number):
            return f"it is @{CHAMPION} ({ours})"
        theirs = float(champion.tags.get("value", "-inf"))
        if champion.tags.get("metric") == trained.metric and theirs >= trained.value:
            return f"@{CHAMPION} stays version {champion.version}: {trained.metric} {theirs:.4f}, this one {ours}"
    client.set_registered_model_alias(name, CHAMPION, number)
    return f"it is the new @{CHAMPION} ({ours})"


def fetch_checkpoint(uri: str, run: str | None = None, model: str | None = None) -> Path:
    """Return a folder with the trained network of a run, or of a registered model (``NAME@ALIAS``, ``NAME/VERSION``).

    Raises:
        UserError: there is none of that name, or the store is not responding.
    """
    target = tempfile.mkdtemp(prefix="wavemix-")
    try:
        client = connect(uri)
        import mlflow

        if run is not None:
            found = client.get_run(run)
            path = mlflow.artifacts.download_artifacts(
                run_id=found.info.run_id, artifact_path="checkpoint", dst_path=target
            )
            return Path(path)
        path = mlflow.artifacts.download_artifacts(f"models:/{model}", dst_path=target)
        return next(Path(path).glob(f"artifacts/*/{DESCRIPTION}")).parent
    except Exception as error:
        shutil.rmtree(target, ignore_errors=True)
        what = f"run {run!r}" if run is not None else f"model {model!r}"
        raise UserError(
            f"{what}: not found in MLflow at {without_credentials(uri)} ({one_line(error)}); "
            "`wavemix runs` lists what is there"
        ) from None


def _signature(columns: Mapping[str, str]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    types = {
        "string": DataType.string,
        "double": DataType.double,
        "names": Array(DataType.string),
        "values": Array(DataType.double),
    }
    outputs = [
        ColSpec(types[kind], name, required=False) for name, kind in {**columns, "error": "string"}.items()
    ]
    return ModelSignature(Schema([ColSpec(DataType.string, "image")]), Schema(outputs))


def _environment(libraries: Sequence[str]) -> dict[str, Any]:
    """Return what MLflow makes of pip requirements, without a version of pip, which `uv` does not install."""
    distributions = packages_distributions()
    packages = [*SERVING_PACKAGES, *(distributions[library][0] for library in libraries)]
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in packages]
    python = f"python={platform.python_version()}"
    return {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [python, "pip", {"pip": requirements}],
    }


def fetch_params(uri: str, run: str) -> str | None:
    """Return the params.yaml of a run as the store has it; None where the store has none, or is not responding."""
    try:
        connect(uri)
        import mlflow

        with tempfile.TemporaryDirectory(prefix="wavemix-") as target:
            path = mlflow.artifacts.download_artifacts(
                run_id=run, artifact_path="params.yaml", dst_path=target
            )
            return Path(path).read_text(encoding="utf-8")
    except Exception:  # as many kinds as there are stores
        return None
