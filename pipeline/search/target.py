"""A target: the smallest network that reaches an accuracy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.search.study import Tried

MINIMISED = ("parameters", "macs", "memory")
"""What can be made small: costs that are counted, not measured."""


@dataclass(frozen=True)
class Target:
    """Reach ``value`` of ``metric`` on val with as little of ``minimise`` as possible."""

    metric: str
    value: float
    minimise: str

    @classmethod
    def parse(cls, text: str, minimise: str, metric: str) -> Target:
        """Return the target that ``text`` names, as in ``top1=0.99``; ``metric`` is that of the task.

        Raises:
            UserError: another metric, or no share from above 0 to 1.
        """
        match = re.fullmatch(r"([A-Za-z0-9_]+)=(0?\.\d+|1(\.0*)?)", text)
        if match is None or not 0 < float(match[2]) <= 1:
            raise UserError(
                f"--target: got {text!r}, allowed: a share above 0 and at most 1, as in {metric}=0.99"
            )
        if match[1] != metric:
            raise UserError(f"--target: got {match[1]}, but networks on this data are judged by {metric}")
        return cls(metric, float(match[2]), minimise)

    def is_reached_by(self, tried: Tried) -> bool:
        """Return whether a trial that was trained to its end has the accuracy."""
        return tried.state == "complete" and tried.best is not None and tried.best >= self.value
