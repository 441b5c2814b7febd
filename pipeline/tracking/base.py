"""What the stages ask of experiment tracking; the only way from them to a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.tracking.registry import ServedNetwork


class Tracking(Protocol):
    """One run in a store. No call waits for the store or fails because of it."""

    @property
    def run_id(self) -> str | None:
        """The run's id in the store, once that has given one."""

    def start(
        self, *, run_id: str | None = None, name: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Open the run ``run_id``, or a new one, and begin sending."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Add a point to each metric. A (metric, step) that was logged before is left as it is.

        A metric that a run has once goes without a step: MLflow draws these as bars, one for each run, and those with
        later steps as curves.
        """

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log params of the run; those it has stay as they are."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run; later values replace earlier ones."""

    def log_text(self, text: str, name: str) -> None:
        """Upload ``text`` as the file ``name``."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Log the data that the run used; ``digest`` has at most 36 characters."""

    def describe(self, note: Callable[[str, str], str], metrics: Sequence[str]) -> None:
        """Give the run a description in Markdown, and its experiment a view that shows ``metrics`` of all runs.

        Args:
            note: makes the description, given the address of the experiment's runs within the store's UI, and the
                run's id.
        """

    def register(self, network: ServedNetwork) -> None:
        """Log a trained network so that it can be served, and register it."""

    def finish(self, status: str = "FINISHED") -> list[str]:
        """Send what is left and close the run; return what the store did not take, by name."""


class NullTracking:
    """No tracking at all: for every process but the first, and for measurements."""

    run_id: str | None = None

    def start(
        self, *, run_id: str | None = None, name: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Do nothing, as all methods here."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None: ...

    def log_params(self, params: Mapping[str, str]) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def log_text(self, text: str, name: str) -> None: ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None: ...

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None: ...

    def describe(self, note: Callable[[str, str], str], metrics: Sequence[str]) -> None: ...

    def register(self, network: ServedNetwork) -> None: ...

    def finish(self, status: str = "FINISHED") -> list[str]:  # noqa: ARG002
        return []
