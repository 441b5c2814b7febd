"""The run that the runs of several trainings belong to: started before them, ended with a page on all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.tracking import names
from pipeline.tracking.run import Tracker


def start_parent(tracker: Tracker, name: str, params: Mapping[str, Any]) -> str | None:
    """Start the run ``name`` with ``params``, nested as they are; leave it running and return its id, if any."""
    tracker.start(name=name, tags=names.source_tags())
    tracker.log_params(names.flatten(params))
    tracker.finish("RUNNING")
    return tracker.run_id


def end_parent(tracker: Tracker, run_id: str, pages: Iterable[Path], folder: str) -> None:
    """Log ``pages``, files or folders, to the run below ``folder``, and end it."""
    tracker.start(run_id=run_id)
    for page in pages:
        tracker.log_artifact(page, folder)
    tracker.finish()
