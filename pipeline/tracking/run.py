"""An MLflow run that never hurts the training: a store that is down, slow or gone costs points, never results.

Every point goes to a local `Outbox` first. A thread sends it in batches and, after a failure, tries again later; what
is left at the end is kept, and the next process that opens the same store sends it. A training that resumes skips the
steps its outbox already has.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import one_line, printable
from pipeline.core.redact import without_credentials
from pipeline.tracking import jobs
from pipeline.tracking.client import RunGoneError, connect, create_run, is_active, is_refusal
from pipeline.tracking.names import is_run_id
from pipeline.tracking.outbox import Outbox
from pipeline.tracking.registry import ServedNetwork, register_network
from pipeline.tracking.unsent import send_unsent

SEND_SECONDS = 5.0
"""Between two sendings of the outbox."""


RETRY_SECONDS = 30.0
"""Between two tries while the store is not responding."""


FINISH_SECONDS = 60.0
"""How long the end of a stage waits for a store that is not responding."""


class Tracker:
    """One MLflow run, written from a thread; see `Tracking` for its methods.

    Args:
        uri: the MLflow store.
        experiment: its name in the store; created when missing.
        journal: a folder for what is not sent yet; a resumed training passes the same one.
    """

    def __init__(self, uri: str, experiment: str, journal: Path) -> None:
        self.uri, self.experiment, self.journal = uri, experiment, journal
        self.run_id: str | None = None
        self._points = Outbox(journal / "points.jsonl")
        self._waiting: deque[tuple[str, jobs.Job]] = deque()
        self._done: list[tuple[str, jobs.Job]] = []
        self._refused: dict[str, str] = {}
        self._said: list[str] = []
        self._create: dict[str, Any] = {}
        self._client: Any = None
        self._monitor: Any = None
        self._warned = self._unsent_gone = False
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def start(
        self, *, run_id: str | None = None, name: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Open the run ``run_id``, or a new one, and begin sending. Waits a few seconds for its id at most."""
        stored = self.journal / "run_id"
        known = run_id or (stored.read_text(errors="replace") if stored.exists() else None)
        self.run_id = known if is_run_id(known) else None
        self._create = {"run_name": name, "tags": jobs.redacted(tags or {})}
        self._thread.start()
        self._wake.set()
        deadline = time.monotonic() + FINISH_SECONDS
        while self._client is None and not self._warned and time.monotonic() < deadline:
            time.sleep(0.02)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        self._points.add(metrics, step)

    def log_params(self, params: Mapping[str, str]) -> None:
        self._submit("params", jobs.log_params(params))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._submit("tags", jobs.set_tags(tags))

    def log_text(self, text: str, name: str) -> None:
        self._submit(f"artifact {name}", jobs.log_text(text, name))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self._submit(f"artifact {path.name}", jobs.log_artifact(path, folder))

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        self._submit("dataset", jobs.log_dataset(name, digest, source, context))

    def describe(self, note: Callable[[str, str], str], metrics: Sequence[str]) -> None:
        self._submit("description", jobs.describe(note, metrics))

    def register(self, network: ServedNetwork) -> None:
        def send(client: Any, run_id: str) -> dict[str, str]:
            self._said.append(register_network(client, run_id, network))
            return {}

        self._submit("model", send)

    def finish(self, status: str = "FINISHED") -> list[str]:
        """Send what is left, close the run with ``status`` and say what the store did not take.

        Returns what is missing there, by name; points among it are kept for the next process that opens the store.
        """
        self._submit("status", jobs.set_status(status))
        self._stop.set()
        self._wake.set()
        self._thread.join(FINISH_SECONDS)
        self._points.close()
        missing = [*self._refused, *(name for name, _ in self._waiting)]
        if points := self._points.waiting():
            try:
                kept = self._points.keep(self.uri, self.run_id, status, self.experiment, self._create)
                missing.insert(0, f"{points} points, kept in {kept} for the next start")
            except OSError as error:  # a full disk; how the training itself ended counts for more
                missing.insert(0, f"{points} points, which could not be kept: {error}")
        if missing:
            print(f"warning: {self._store} did not take: {printable('; '.join(missing))}")
        for line in self._said:
            print(line)
        return missing

    @property
    def _store(self) -> str:
        return f"MLflow at {without_credentials(self.uri)}"

    def _submit(self, name: str, job: jobs.Job) -> None:
        """Have ``job`` done by the thread, in order; it is repeated until it succeeds or is refused."""
        self._waiting.append((name, job))
        self._wake.set()

    def _work(self) -> None:
        """Connect, send and wait, again and again until `finish`: the thread."""
        pause, deadline = SEND_SECONDS, float("inf")
        while True:
            try:
                self._deliver()
                pause = SEND_SECONDS
                if self._stop.is_set() and not self._waiting:
                    break
            except Exception as error:
                # Whatever the store or the network throws, training continues.
                if not self._warned:
                    print(f"warning: {self._store} is not responding ({one_line(error)}); training goes on")
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

    def _deliver(self) -> None:
        """Send all that waits, to a new run where the run was deleted."""
        if self._client is None:
            self._client = self._open_run(connect(self.uri))
        try:
            self._send_jobs()
            self._note_refused(self._points.send(self._client, self._run))
        except RunGoneError:
            self._open_another_run(self._client)
            self._send_jobs()
            self._note_refused(self._points.send(self._client, self._run))
        if not self._unsent_gone:
            send_unsent(self._client, self.uri)
            self._unsent_gone = True

    def _open_run(self, client: Any) -> Any:
        """Resume the run, or create one where there is none yet; return ``client``."""
        if self.run_id is not None and not is_active(client, self.run_id):
            self._open_another_run(client)
            return client
        if self.run_id is None:
            self.run_id = create_run(client, self.experiment, self._create)
        else:
            client.update_run(self.run_id, status="RUNNING")
        self._follow_run(self.run_id)
        return client

    def _open_another_run(self, client: Any) -> None:
        """Create a run in place of one that was deleted, and let all that went there be sent again."""
        gone, self.run_id = self.run_id, create_run(client, self.experiment, self._create)
        print(f"warning: MLflow's run {gone} was deleted; its place is taken by the new run {self.run_id}")
        self._points.rewind()
        self._waiting.extendleft(reversed(self._done))
        self._done.clear()
        self._follow_run(self.run_id)

    def _follow_run(self, run_id: str) -> None:
        """Remember the run for a process that resumes, and begin to log the load of CPU, memory and GPU to it."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        (self.journal / "run_id").write_text(run_id)
        if self._monitor:
            self._monitor.finish()
        self._monitor = SystemMetricsMonitor(run_id, resume_logging=True)
        self._monitor.start()

    def _send_jobs(self) -> None:
        while self._waiting:
            name, job = self._waiting[0]
            try:
                self._note_refused(job(self._client, self._run))
            except Exception as error:
                if not is_refusal(error):
                    raise
                if not is_active(self._client, self._run):
                    raise RunGoneError(self._run) from error
                self._note_refused({name: one_line(error)})
            self._done.append(self._waiting.popleft())

    def _note_refused(self, refused: Mapping[str, str]) -> None:
        for name, reason in refused.items():
            if name not in self._refused:
                print(f"warning: MLflow refused {printable(name)}: {reason}")
        self._refused |= refused

    @property
    def _run(self) -> str:
        assert self.run_id is not None
        return self.run_id
