"""Trained networks in MLflow: logged so that they can be served, registered, found again."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.checkpoints.trained import DESCRIPTION, Trained
from pipeline.core.errors import UserError, one_line
from pipeline.inference.base64_text import encode_base64
from pipeline.tasks import TASKS
from pipeline.tracking.store import client

CHAMPION = "champion"


SERVING_PACKAGES = (
    "mlflow", "torch", "numpy", "pandas", "pillow", "opencv-python-headless", "simplejpeg", "safetensors",
    "pydantic", "huggingface-hub", "pytorch-wavelets", "PyWavelets", "ruamel.yaml", "matplotlib", "setuptools",
)  # fmt: skip
"""What a serving environment needs beside the logged code; the versions are those in use when it is logged."""


def model_name(data: str) -> str:
    """The registered model of all networks for one data set."""
    return f"wavemix-lite-{data}"


def log_model(store: Any, run_id: str, checkpoint: Path, trained: Trained, images: Sequence[bytes]) -> str:
    """Log the network as a model that `mlflow models serve` answers with, register it, crown it if it is better.

    Logging the same checkpoint of a run again changes nothing.

    Args:
        store: an MLflow client.
        checkpoint: the folder that `save_trained` wrote.
        images: encoded image files, the input example.

    Returns a line that says what became of it.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    name = model_name(trained.data)
    known = store.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    entry = next((entry for entry in known if entry.tags.get("step") == str(trained.step)), None)
    if entry is None:
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).parents[1] / "inference" / "serving.py"),
                artifacts={"checkpoint": str(checkpoint)},
                code_paths=[str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "wavemix")],
                signature=_signature(trained),
                input_example=_example(images),
                conda_env=_environment(),
                metadata={"task": trained.task, "data": trained.data, "parameters": trained.parameters},
            )
        entry = mlflow.register_model(
            logged.model_uri,
            name,
            tags={"step": str(trained.step), "metric": trained.metric, "value": f"{trained.value:.6f}"},
        )
    return f"registered {name} version {entry.version}; {_promote(store, name, entry.version, trained)}"


def _promote(store: Any, name: str, number: str, trained: Trained) -> str:
    """Move the alias to version ``number`` if its validation is better; says what was done."""
    ours = f"{trained.metric} {trained.value:.4f}"
    champions = store.get_registered_model(name).aliases
    if CHAMPION in champions:
        champion = store.get_model_version_by_alias(name, CHAMPION)
        if str(champion.version) == str(number):
            return f"it is @{CHAMPION} ({ours})"
        theirs = float(champion.tags.get("value", "-inf"))
        if champion.tags.get("metric") == trained.metric and theirs >= trained.value:
            return f"@{CHAMPION} stays version {champion.version}: {trained.metric} {theirs:.4f}, this one {ours}"
    store.set_registered_model_alias(name, CHAMPION, number)
    return f"it is the new @{CHAMPION} ({ours})"


def fetch_checkpoint(uri: str, run: str | None = None, model: str | None = None) -> Path:
    """A folder with the trained network of a run, or of a registered model (``NAME@ALIAS`` or ``NAME/VERSION``).

    Raises:
        UserError: there is none of that name, or the store does not answer.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    store = client(uri)
    import mlflow

    target = tempfile.mkdtemp(prefix="wavemix-")
    try:
        if run is not None:
            found = store.get_run(run)
            path = mlflow.artifacts.download_artifacts(
                run_id=found.info.run_id, artifact_path="checkpoint", dst_path=target
            )
            return Path(path)
        path = mlflow.artifacts.download_artifacts(f"models:/{model}", dst_path=target)
        return next(Path(path).glob(f"artifacts/*/{DESCRIPTION}")).parent
    except Exception as error:
        what = f"run {run!r}" if run is not None else f"model {model!r}"
        raise UserError(
            f"{what}: not found in MLflow at {uri} ({one_line(error)}); `wavemix runs` lists what is there"
        ) from None


def _signature(trained: Trained) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    types = {
        "string": DataType.string,
        "double": DataType.double,
        "names": Array(DataType.string),
        "values": Array(DataType.double),
    }
    columns = {**TASKS[trained.task].answer_columns, "error": "string"}
    outputs = [ColSpec(types[kind], name, required=False) for name, kind in columns.items()]
    return ModelSignature(Schema([ColSpec(DataType.string, "image")]), Schema(outputs))


def _example(images: Sequence[bytes]) -> Any:
    import pandas as pd

    return pd.DataFrame({"image": [encode_base64(image) for image in images]})


def _environment() -> dict[str, Any]:
    """What MLflow would make of pip requirements, without a version of pip, which `uv` does not install."""
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in SERVING_PACKAGES]
    python = f"python={platform.python_version()}"
    return {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [python, "pip", {"pip": requirements}],
    }
