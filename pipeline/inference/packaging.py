"""A trained network with what MLflow needs to serve it: its files, and of our code what `serving` imports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.checkpoints.trained import Trained, load_trained
from pipeline.core.source_code import import_closure
from pipeline.inference.base64_text import encode_base64
from pipeline.tasks import TASKS
from pipeline.tracking.registry import ServedNetwork

SERVING = "pipeline.inference.serving"
"""The module that MLflow runs as the model. It is not imported here: it registers itself with MLflow."""


def served_network(checkpoint: Path, trained: Trained, images: Iterable[bytes]) -> ServedNetwork:
    """Return the network in ``checkpoint`` as the registry takes it.

    Args:
        images: encoded image files, which become the example of a request.
    """
    sources = _sources()
    return ServedNetwork(
        checkpoint=checkpoint,
        trained=trained,
        code=sources[SERVING],
        sources=sources,
        columns=TASKS[trained.task].answer_columns,
        examples=[encode_base64(image) for image in images],
        libraries=load_trained(checkpoint).model.requires,
    )


def _sources() -> dict[str, Path]:
    """Return the modules that `SERVING` needs, with the packages that they lie in: Python runs these first."""
    within = ("pipeline", "wavemix")
    modules = import_closure([SERVING], within)
    packages = {name.rsplit(".", level)[0] for name in modules for level in range(1, name.count(".") + 1)}
    return import_closure([*modules, *packages], within)
