"""An MLflow run that never hurts the training: a store that is down, slow or gone costs points, never results.

Every point goes to a local `Outbox` first. A thread sends it in batches and, after a failure, tries again later; what
is left at the end is kept, and the next process that opens the same store sends it. A training that resumes skips the
steps its journal already has.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.errors import one_line
from pipeline.core.hashing import configuration_hash
from pipeline.core.locks import exclusive_lock
from pipeline.core.paths import repository_root, work_folder
from pipeline.tracking.outbox import Outbox, send_kept

SEND_SECONDS = 5.0
"""Between two sendings of the journal."""


RETRY_SECONDS = 30.0
"""Between two tries while the store does not answer."""


FINISH_SECONDS = 60.0
"""How long the end of a stage waits for a store that does not answer."""


class Tracker:
    """One MLflow run, written from a thread.

    Args:
        uri: the MLflow store.
        experiment: its name in the store; made when missing.
        journal: a folder for what is not sent yet; a resumed training passes the same one.
        enabled: false makes every call do nothing, as all ranks but the first want it.
    """

    def __init__(self, uri: str, experiment: str, journal: Path, enabled: bool = True) -> None:
        self.uri, self.experiment, self.journal = uri, experiment, journal
        self.run_id: str | None = None
        self._jobs: queue.Queue[tuple[str, Callable[[Any, str], None]]] = queue.Queue()
        self._failed_job: tuple[str, Callable[[Any, str], None]] | None = None
        self._refused: list[str] = []
        self._client: Any = None
        self._monitor: Any = None
        self._warned = False
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._create: dict[str, Any] = {}
        self._enabled = enabled
        if enabled:
            self._points = Outbox(journal / "points.jsonl")

    def start(
        self, *, run_id: str | None = None, name: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Open the run ``run_id``, or a new one, and begin sending. Waits a few seconds for its id at the most."""
        if not self._enabled:
            return
        stored = self.journal / "run_id"
        self.run_id = run_id or (stored.read_text() if stored.exists() else None)
        self._create = {"run_name": name, "tags": dict(tags or {})}
        self._thread.start()
        self._wake.set()
        deadline = time.monotonic() + FINISH_SECONDS
        while self._client is None and not self._warned and time.monotonic() < deadline:
            time.sleep(0.02)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Add a point to each metric. A (metric, step) that is already in the journal is left as it is.

        Figures of which a run has one go without a step: MLflow draws them as bars, one for each run, and what has a
        later step as curves.
        """
        if self._enabled:
            self._points.add(metrics, step)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Params of the run; ones it already has stay as they are."""

        def send(client: Any, run_id: str) -> None:
            from mlflow.entities import Param

            known = client.get_run(run_id).data.params
            new = [Param(key, value[:6000]) for key, value in params.items() if key not in known]
            for start in range(0, len(new), 100):
                client.log_batch(run_id, params=new[start : start + 100])

        self.submit("params", send)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the run; later values replace earlier ones."""

        def send(client: Any, run_id: str) -> None:
            for key, value in tags.items():
                client.set_tag(run_id, key, value)

        self.submit("tags", send)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""

        def send(client: Any, run_id: str) -> None:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), folder or path.name)
            else:
                client.log_artifact(run_id, str(path), folder)

        self.submit(f"artifact {path.name}", send)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """The data the run used; ``digest`` at most 36 characters."""

        def send(client: Any, run_id: str) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset(
                name=name, digest=digest[:36], source_type="local", source=json.dumps({"uri": source})
            )
            client.log_inputs(
                run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
            )

        self.submit("dataset", send)

    def submit(self, name: str, job: Callable[[Any, str], None]) -> None:
        """Have ``job(client, run_id)`` done by the thread, in order; it is repeated until it succeeds."""
        if self._enabled:
            self._jobs.put((name, job))
            self._wake.set()

    def finish(self, status: str = "FINISHED") -> list[str]:
        """Send what is left, close the run with ``status`` and say what the store did not take.

        Returns what is missing there, by name; points among it are kept for the next process that opens the store.
        """
        if not self._enabled:
            return []
        self.submit("status", lambda client, run_id: client.set_terminated(run_id, status))
        self._stop.set()
        self._wake.set()
        self._thread.join(FINISH_SECONDS)
        self._points.close()
        waiting = [*([self._failed_job] if self._failed_job else []), *self._jobs.queue]
        missing = [*self._refused, *(name for name, _ in waiting)]
        if points := self._points.waiting():
            try:
                kept = self._points.keep(self.uri, self.run_id, status, self.experiment, self._create)
                missing.insert(0, f"{points} points, kept in {kept} for the next start")
            except OSError as error:  # a full disk; how the training itself ended counts for more
                missing.insert(0, f"{points} points, which could not be kept: {error}")
        if missing:
            print(f"warning: MLflow at {self.uri} did not take: {'; '.join(missing)}")
        return missing

    def _work(self) -> None:
        """The thread: connect, send, wait; again until `finish`."""
        pause, deadline, kept_sent = SEND_SECONDS, float("inf"), False
        while True:
            try:
                if self._client is None:
                    # Two processes that make the tables of a new store at once get in each other's way.
                    lock = work_folder("mlflow", f"{configuration_hash(self.uri)}.lock")
                    with exclusive_lock(lock, wait=True) if self.uri.startswith("sqlite:") else nullcontext():
                        self._connect()
                self._send_jobs()
                self._points.send(self._client, self._run)
                if not kept_sent:
                    send_kept(self._client, self.uri, partial(_create_run, self._client))
                    kept_sent = True
                pause = SEND_SECONDS
                if self._stop.is_set() and self._jobs.empty():
                    break
            except Exception as error:
                # Whatever the store or the network throws, training goes on.
                if not self._warned:
                    print(
                        f"warning: MLflow at {self.uri} does not answer ({one_line(error)}); training goes on"
                    )
                self._warned, pause = True, RETRY_SECONDS
                if self._stop.is_set():
                    deadline = min(deadline, time.monotonic() + FINISH_SECONDS / 2)
                    pause = 2.0
                    if time.monotonic() > deadline:
                        break
            self._wake.wait(pause)
            self._wake.clear()
        if self._monitor:
            self._monitor.finish()

    def _connect(self) -> None:
        """Import MLflow, make the experiment and the run: the first time, or after a failure."""
        # A store that is down must cost seconds: MLflow's default is seven retries over four minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        # `_work` says once, in a line, that a store fails; these would say it at each try, in many.
        for name in ("mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        mlflow.set_tracking_uri(self.uri)
        client = mlflow.MlflowClient(self.uri)
        if self.run_id is not None:
            try:
                client.update_run(self.run_id, status="RUNNING")
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self.run_id = None
        if self.run_id is None:
            self.run_id = _create_run(client, self.experiment, self._create)
        assert self.run_id is not None
        (self.journal / "run_id").write_text(self.run_id)
        # CPU, memory and GPU load as MLflow's own system metrics.
        self._monitor = SystemMetricsMonitor(self.run_id, resume_logging=True)
        self._monitor.start()
        self._client = client

    def _send_jobs(self) -> None:
        from mlflow.exceptions import MlflowException

        while self._failed_job or not self._jobs.empty():
            self._failed_job = self._failed_job or self._jobs.get()
            name, job = self._failed_job
            try:
                job(self._client, self._run)
            except (FileNotFoundError, MlflowException) as error:
                # What the store refuses it will refuse again; only a store that does not answer is asked again.
                if isinstance(error, MlflowException) and error.get_http_status_code() >= 500:
                    raise
                self._refused.append(name)
                print(f"warning: MLflow refused {name}: {one_line(error)}")
            self._failed_job = None

    @property
    def _run(self) -> str:
        assert self.run_id is not None
        return self.run_id


def _create_run(client: Any, experiment: str, arguments: Mapping[str, Any]) -> str:
    """A new run in an experiment, which is made where there is none; returns the run's id."""
    known = client.get_experiment_by_name(experiment)
    # Beside a local store the artifacts lie in the repository, wherever the stage runs.
    local = str(repository_root() / "mlartifacts") if client.tracking_uri.startswith("sqlite:") else None
    # Without this tag the UI opens the experiment as one of generative AI.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    number = known.experiment_id if known else client.create_experiment(experiment, local, tags=kind)
    run_id: str = client.create_run(number, **arguments).info.run_id
    return run_id
