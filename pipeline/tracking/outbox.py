"""Points on their way to MLflow: on the disk from when they are made until the store has them.

Points carry the time they were made, so a store that is sent one twice keeps it once.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.tracking.points import BATCH, Point, log_points, parse_point, parse_points
from pipeline.tracking.unsent import forget_copies, keep_unsent


class Outbox:
    """The points of one run, a line of JSON each: opened again, it resumes where a process was killed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        # What follows the last line feed was cut off by a kill.
        whole = content[: content.rfind(b"\n") + 1]
        points = [parse_point(line) for line in whole.splitlines()]
        if damaged := [number for number, point in enumerate(points, start=1) if point is None]:
            lines = ", ".join(map(str, damaged[:5]))
            print(f"warning: {path}: {len(damaged)} damaged lines are left out (line {lines})")
        self._known = {(point.key, point.step) for point in points if point is not None}
        forget_copies(whole)
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
        points = (Point(key, value, step, now)._asdict() for key, value in new.items())
        lines = b"".join(json.dumps(point).encode() + b"\n" for point in points)
        before = os.fstat(self._file.fileno()).st_size
        # A disk that fills up takes a part and says nothing; a line cut off must never be followed by another.
        if self._file.write(lines) < len(lines):
            self._file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._known.update((key, step) for key in new)

    def send(self, client: Any, run_id: str) -> dict[str, str]:
        """Send what was not sent yet; return the metrics that the store refuses, each with its reason."""
        refused: dict[str, str] = {}
        while lines := self._waiting(BATCH):
            refused |= log_points(client, run_id, parse_points(lines))
            self._sent += sum(map(len, lines))
        return refused

    def rewind(self) -> None:
        """Let `send` begin with the first point again, for another run."""
        self._sent = 0

    def waiting(self) -> int:
        """Return how many points were not sent yet."""
        return len(self._waiting())

    def keep(
        self, uri: str, run_id: str | None, status: str, experiment: str, create: Mapping[str, Any]
    ) -> Path:
        """Copy what was not sent yet to where the next process finds it; the arguments are those of `keep_unsent`."""
        return keep_unsent(self._waiting(), uri, run_id, status, experiment, create)

    def close(self) -> None:
        """Close the file; nothing can be added any more."""
        self._file.close()

    def _waiting(self, limit: int | None = None) -> list[bytes]:
        with self.path.open("rb") as file:
            file.seek(self._sent)
            return [line for line in islice(file, limit) if line.endswith(b"\n")]
