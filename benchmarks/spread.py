"""How the measurements of several rounds are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], form: str) -> str:
    """Median, lowest and highest, each as ``form`` says: ``1.9 (1.8 to 2.0)``."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
