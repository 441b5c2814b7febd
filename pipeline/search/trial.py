"""One trial: what is drawn becomes a training of this pipeline."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoints import result_cache
from pipeline.checkpoints.trained import Trained
from pipeline.core.errors import UserError, one_line
from pipeline.params import Params
from pipeline.search.objectives import HIGHER_IS_BETTER, Cost, figure_of
from pipeline.search.study import Tried
from pipeline.train.experiment import train_once
from pipeline.train.observers.base import EndTraining
from pipeline.train.observers.notes import Notes
from pipeline.train.state import TrainingState

FIRST_TRIALS = 5
"""Trials at an epoch before one is stopped at it."""


class Progress(Notes):
    """Notes how a trial goes, and ends it where ``falls_behind`` says so.

    Args:
        metric, note, known: as of `Notes`.
        falls_behind: told the accuracies of the epochs so far and the rate of the last, says whether to stop.
    """

    def __init__(
        self,
        metric: str,
        note: Callable[[str, Any], None],
        known: Mapping[str, Any],
        falls_behind: Callable[[Sequence[float], float], bool],
    ) -> None:
        super().__init__(metric, note, known)
        self._falls_behind = falls_behind

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:
        super().after_validation(state, row, better)
        if self._falls_behind(self.accuracies(state.progress.epoch), row["train/images_per_second"]):
            raise EndTraining


def is_behind(
    curve: Sequence[float], rate: float, cost: Cost, others: Sequence[Tried], objectives: Sequence[str]
) -> bool:
    """Return whether the best of ``curve`` is below the median of those trials that cost no more, at the same epoch.

    The median rule of Golovin et al. (Google Vizier, 2017), among trials that are no costlier in each objective: a
    small network is not to be stopped for the accuracy of large ones.
    """
    costs = [name for name in objectives if name != "accuracy"]
    own = [figure_of(name, None, rate, cost) for name in costs]
    rivals = [
        max(other.curve[: len(curve)])
        for other in others
        if other.state in ("complete", "pruned")
        and other.same_as is None
        and len(other.curve) >= len(curve)
        and all(_no_costlier(other.figure(name), mine, name) for name, mine in zip(costs, own, strict=True))
    ]
    return len(rivals) >= FIRST_TRIALS and max(curve) < statistics.median(rivals)


def _no_costlier(figure: float | None, mine: float | None, objective: str) -> bool:
    if figure is None or mine is None:
        return False
    return figure >= mine if objective in HIGHER_IS_BETTER else figure <= mine


def train_trial(
    params: Params, folder: Path, progress: Progress, tags: Mapping[str, str]
) -> tuple[str, Trained | None, str]:
    """Train ``params`` within ``folder``; return how it ended, the network's description, and why it failed.

    A signal ends the process, and the next call resumes.
    """
    out = folder / "best"
    try:
        trained = train_once(params, out, folder / result_cache.CURVES, [progress], tags)
    except EndTraining:
        return "pruned", None, ""
    except UserError as error:
        return "fail", None, one_line(error)
    return "complete", trained, ""


def forget_trial(folder: Path) -> None:
    """Delete what `train_trial` left in ``folder`` and in the cache of results, once the study has its figures."""
    if (folder / "best").exists():
        result_cache.forget(folder / "best")
    shutil.rmtree(folder, ignore_errors=True)
