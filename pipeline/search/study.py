"""A study: the trials of one search, in Optuna's storage, drawn so that a killed search ends as an undisturbed one.

What a trial draws is a function of the study's seed, the trial's number, the key, and the trials that ended before. A
trial that was under way when its process died is taken up again under its number by the next process on that machine.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core.errors import UserError, one_line
from pipeline.core.locks import exclusive_lock
from pipeline.core.redact import without_credentials
from pipeline.search.objectives import HIGHER_IS_BETTER, Cost, figure_of

FORMAT = 1
"""Of what this module writes into a storage."""
FIRST_DRAWS = 10
"""Trials drawn at random before the sampler has something to learn from."""
WAIT_SECONDS = 60
"""How long a process waits for another that writes to the same SQLite file; and the age of a trial on a server that
no machine has signed, after which its process must have died."""


@dataclass(frozen=True)
class Tried:
    """A trial, as the storage has it."""

    number: int
    state: str
    """complete, pruned, fail or running."""
    drawn: Mapping[str, Any]
    """Values by key, as the storage has them."""
    cost: Cost | None
    """None before it was counted."""
    curve: tuple[float, ...]
    """Accuracy on val after each epoch."""
    seconds: float
    """Spent training."""
    rate: float | None
    """Images a second while training, of the last epoch."""
    same_as: int | None
    """The earlier trial whose values it has; it was not trained again."""
    note: str
    """Why it was not trained, or failed."""
    run_id: str | None
    """Its run in MLflow."""

    @property
    def best(self) -> float | None:
        """The best accuracy so far."""
        return max(self.curve, default=None)

    @property
    def was_trained(self) -> bool:
        """Return False for a trial that needed no training, since its result was known."""
        return self.same_as is None and not (self.state == "pruned" and not self.curve)

    def figure(self, objective: str) -> float | None:
        """Return the figure of an objective; None where it has none yet."""
        return figure_of(objective, self.best, self.rate, self.cost)


class Study:
    """One search in a storage that any number of processes share.

    Args:
        storage: an SQLAlchemy address.
        name: tells the studies of a storage apart: equal searches have equal names.
        objectives: figures of `Tried.figure`, of which `HIGHER_IS_BETTER` says how to judge them.
        about: what is searched, for people who read the storage.
        folder: of locks and of trials under way, on this machine.

    Raises:
        UserError: the storage cannot be reached, or another version wrote it.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        objectives: Sequence[str],
        seed: int,
        about: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name, self.objectives, self.folder = name, tuple(objectives), folder
        self._local = storage.startswith("sqlite")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            # Two processes that create the same tables at the same time fail each other.
            with exclusive_lock(folder.parent / "storage.lock", wait=True, quietly=True):
                self._study = optuna.create_study(
                    storage=_open(storage),
                    study_name=name,
                    directions=["maximize" if one in HIGHER_IS_BETTER else "minimize" for one in objectives],
                    sampler=RepeatableSampler(seed),
                    pruner=optuna.pruners.NopPruner(),
                    load_if_exists=True,
                )
        except (
            RuntimeError,
            ImportError,
            ValueError,
            SQLAlchemyError,
            optuna.exceptions.OptunaError,
        ) as error:
            raise UserError(
                f"machine.study_storage: {without_credentials(storage)} cannot be used: {one_line(error)}; name another"
            ) from None
        written = self._study.user_attrs.get("format", FORMAT)
        if written != FORMAT:
            raise UserError(
                f"machine.study_storage: another version wrote study {name} there (format {written}, this one writes "
                f"{FORMAT}); name another"
            )
        for key, value in {"format": FORMAT, **about}.items():
            if key not in self._study.user_attrs:
                self._study.set_user_attr(key, value)

    @property
    def run_id(self) -> str | None:
        """The run in MLflow that the trials' runs belong to."""
        return self._study.user_attrs.get("run_id")

    @run_id.setter
    def run_id(self, value: str | None) -> None:
        self._study.set_user_attr("run_id", value)

    def tried(self) -> list[Tried]:
        """Return all trials, by number."""
        return [_tried(trial) for trial in self._study.get_trials(deepcopy=False)]

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no other process of this machine claims a trial or writes to the study's run."""
        return exclusive_lock(self.folder / "claims.lock", wait=True, quietly=True)

    @contextmanager
    def claim(self, room_left: Callable[[Sequence[Tried]], bool]) -> Iterator[Trial | None]:
        """Yield a trial that no other process has, while the block runs; None where nothing is left to do.

        First those that a process of this machine left behind. Then a new one, if ``room_left(tried)`` is true.
        """
        with ExitStack() as held:
            with self.alone():
                trial = self._left_behind(held)
                if trial is None and room_left(self.tried()):
                    trial = self._study.ask()
                    held.enter_context(exclusive_lock(self._lock(trial.number)))
                    trial.set_user_attr("host", platform.node())
            yield trial

    def tell(self, trial: Trial, state: str, values: Sequence[float] | None = None) -> None:
        """End ``trial``: complete with its values, pruned, or fail."""
        self._study.tell(trial, values, TrialState[state.upper()])

    def importances(self) -> dict[str, float]:
        """Return how much each key had to do with the accuracy, shares of 1; empty where too few trials ended."""
        with warnings.catch_warnings():
            # It says that it looks for low values, which is why the accuracy is given to it negated.
            warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")
            try:
                return optuna.importance.get_param_importances(
                    self._study, target=lambda trial: -max(_curve(trial), default=0.0)
                )
            except (RuntimeError, ValueError, ZeroDivisionError):
                return {}

    def _left_behind(self, held: ExitStack) -> Trial | None:
        for frozen in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if not self._is_ours(frozen):
                continue
            try:
                held.enter_context(exclusive_lock(self._lock(frozen.number)))
            except UserError:  # at work
                continue
            trial = Trial(self._study, frozen._trial_id)
            trial.set_user_attr("host", platform.node())
            return trial
        return None

    def _is_ours(self, trial: FrozenTrial) -> bool:
        """Return whether a process of this machine began ``trial``; one killed before it signed leaves no name."""
        host = trial.user_attrs.get("host")
        if host is None:
            started = trial.datetime_start
            return self._local or started is None or time.time() - started.timestamp() > WAIT_SECONDS
        return bool(host == platform.node())

    def _lock(self, number: int) -> Path:
        return self.folder / f"trial-{number}.lock"


class RepeatableSampler(BaseSampler):
    """Draws each value by the Tree-structured Parzen Estimator of Optuna, seeded by trial and key.

    No state is kept between draws, so that a trial whose process was killed half way through its draws, and taken up by
    another, has what it would have had.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return {}

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        text = f"{self._seed} {trial.number} {param_name}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        sampler = TPESampler(seed=seed, n_startup_trials=FIRST_DRAWS)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def _open(storage: str) -> optuna.storages.RDBStorage:
    options = {"connect_args": {"timeout": WAIT_SECONDS}} if storage.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(storage, engine_kwargs=options)


def _curve(trial: FrozenTrial) -> tuple[float, ...]:
    points = {int(epoch): value for epoch, value in trial.user_attrs.get("curve", {}).items()}
    return tuple(points[epoch] for epoch in sorted(points))


def drawn_values(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a trial drew: choices are stored as JSON."""
    return {key: json.loads(value) if isinstance(value, str) else value for key, value in stored.items()}


def _tried(trial: FrozenTrial) -> Tried:
    attributes = trial.user_attrs
    cost = attributes.get("cost")
    return Tried(
        number=trial.number,
        state=trial.state.name.lower(),
        drawn=drawn_values(trial.params),
        cost=None if cost is None else Cost(**cost),
        curve=_curve(trial),
        seconds=attributes.get("seconds", 0.0),
        rate=attributes.get("rate"),
        same_as=attributes.get("same_as"),
        note=attributes.get("note", ""),
        run_id=attributes.get("mlflow_run"),
    )
