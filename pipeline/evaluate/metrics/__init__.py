"""Metrics that are only reported: an edit here reruns `evaluate` alone, and trains nothing.

To add one, write it in a file of its own and name it in `METRICS`. What picks the best checkpoint belongs to the task.
"""

from __future__ import annotations

from pipeline.evaluate.metrics.base import OpenMetric
from pipeline.evaluate.metrics.calibrated import Calibrated
from pipeline.evaluate.metrics.full_resolution import FullResolution

METRICS: tuple[OpenMetric, ...] = (Calibrated.open, FullResolution.open)
