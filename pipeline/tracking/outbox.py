"""Points on their way to MLflow: on the disk from when they are made until the store has them.

Points carry the time they were made, so a store that is sent one twice keeps it once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline.core.errors import one_line
from pipeline.core.hashing import configuration_hash
from pipeline.core.paths import repository_root

BATCH = 1000
"""Points in one request: MLflow's limit."""


class Outbox:
    """The points of one run, a line of JSON each: opened again, it goes on where a process was killed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        # What follows the last line feed was cut off by a kill.
        whole = content[: content.rfind(b"\n") + 1]
        self._known = {(point["key"], point["step"]) for point in map(json.loads, whole.splitlines())}
        _forget_copies(whole)
        self._sent = 0  # bytes
        # Opened once; each line is handed to the kernel at once, so a killed process loses none.
        self._file = path.open("ab", buffering=0)
        self._file.truncate(len(whole))

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Write a point for each metric. A (metric, step) that is there already is left as it is.

        Raises:
            OSError: the disk is full, for example; none of them was written.
        """
        now = int(time.time() * 1000)
        new = {key: value for key, value in metrics.items() if (key, step) not in self._known}
        points = ({"key": key, "value": value, "step": step, "time": now} for key, value in new.items())
        lines = b"".join(json.dumps(point).encode() + b"\n" for point in points)
        before = os.fstat(self._file.fileno()).st_size
        # A disk that fills up takes a part and says nothing; a line cut off must never be followed by another.
        if self._file.write(lines) < len(lines):
            self._file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._known.update((key, step) for key in new)

    def send(self, client: Any, run_id: str) -> None:
        """Send what was not sent yet."""
        while lines := self._waiting(BATCH):
            _log(client, run_id, map(json.loads, lines))
            self._sent += sum(map(len, lines))

    def waiting(self) -> int:
        """How many points were not sent yet."""
        return len(self._waiting())

    def keep(
        self, uri: str, run_id: str | None, status: str, experiment: str, create: Mapping[str, Any]
    ) -> Path:
        """Copy what was not sent yet to where `send_kept` finds it, with what that needs.

        Args:
            run_id: None where the store never made the run; then it is made in ``experiment`` with ``create``, the
                arguments of `MlflowClient.create_run`.
            status: how the run ended, which the store does not know either.

        Raises:
            OSError: the disk is full, for example; the journal has them still.
        """
        run = {"run_id": run_id, "status": status, "experiment": experiment, "create": create}
        where = {"store": _name(uri), **run}
        path = _kept_folder() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:8]}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_kept(path, where, self._waiting())
        return path

    def close(self) -> None:
        self._file.close()

    def _waiting(self, most: int | None = None) -> list[bytes]:
        with self.path.open("rb") as file:
            file.seek(self._sent)
            return [line for line in islice(file, most) if line.endswith(b"\n")]


def send_kept(client: Any, uri: str, create: Callable[[str, Mapping[str, Any]], str]) -> None:
    """Send what earlier processes could not send to the store at ``uri``, and delete it.

    Args:
        create: makes a run from what `Journal.keep` was given; returns its id.
    """
    from mlflow.exceptions import MlflowException

    for path in sorted(_kept_folder().glob("*.jsonl")):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another process is sending it
                continue
            where, lines = json.loads(file.readline()), file.readlines()
            if where.get("store") != _name(uri) or not path.exists():
                continue
            try:
                if where["run_id"] is None:
                    where["run_id"] = create(where["experiment"], where["create"])
                    _write_kept(path, where, lines)
                for start in range(0, len(lines), BATCH):
                    _log(client, where["run_id"], map(json.loads, lines[start : start + BATCH]))
                client.set_terminated(where["run_id"], where["status"], json.loads(lines[-1])["time"])
            except MlflowException as error:
                if error.get_http_status_code() >= 500:
                    raise
                print(
                    f"warning: MLflow refused the points kept in {path}: {one_line(error)}; "
                    "delete it if they may go"
                )
                continue
            path.unlink()
            print(
                f"MLflow at {uri} has taken {len(lines)} points of run {where['run_id']} that were kept in {path}"
            )


def _log(client: Any, run_id: str, points: Iterable[Mapping[str, Any]]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(point["key"], point["value"], point["time"], point["step"]) for point in points]
    client.log_batch(run_id, metrics=metrics)


def _name(uri: str) -> str:
    """The store without its address, which may hold a password."""
    return configuration_hash(uri)


def _forget_copies(points: bytes) -> None:
    """Delete what was kept of a journal that is gone on with: it sends that by itself."""
    own = set(points.splitlines())
    for path in _kept_folder().glob("*.jsonl") if own else ():
        if own.issuperset(path.read_bytes().splitlines()[1:]):
            path.unlink()


def _kept_folder() -> Path:
    return repository_root() / ".work/unsent"


def _write_kept(path: Path, where: Mapping[str, Any], lines: list[bytes]) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(json.dumps(where).encode() + b"\n" + b"".join(lines))
    part.replace(path)
