"""Points of metrics as lines of JSON, and how they are sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.tracking.client import send_apart

BATCH = 1000
"""Points in one request: MLflow's limit."""


class Point(NamedTuple):
    """One value of a metric; ``time`` in milliseconds since 1970."""

    key: str
    value: float
    step: int
    time: int


def parse_points(lines: Sequence[bytes]) -> list[Point]:
    """Return the points that ``lines`` hold; damaged lines are passed over."""
    return [point for point in map(parse_point, lines) if point is not None]


def parse_point(line: bytes) -> Point | None:
    """Return the point that a line holds; None for a damaged line."""
    try:
        fields = json.loads(line)
        return Point(str(fields["key"]), float(fields["value"]), int(fields["step"]), int(fields["time"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def log_points(client: Any, run_id: str, points: Sequence[Point]) -> dict[str, str]:
    """Send ``points`` to a run, `BATCH` at a time.

    Returns:
        The metrics of which the store refuses points, each with its reason.

    Raises:
        RunGoneError: the run was deleted, or the store never had it.
    """
    from mlflow.entities import Metric

    def send(metrics: Sequence[Metric]) -> None:
        client.log_batch(run_id, metrics=metrics)

    refused: dict[str, str] = {}
    for start in range(0, len(points), BATCH):
        groups: dict[str, list[Metric]] = {}
        for key, value, step, time in points[start : start + BATCH]:
            groups.setdefault(key, []).append(Metric(key, value, time, step))
        refused |= send_apart(client, run_id, groups, send)
    return refused
