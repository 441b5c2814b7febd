"""The space that a search draws from: keys of ``params.yaml`` with their ranges or choices."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from pipeline.core.errors import UserError, did_you_mean, one_line
from pipeline.params.search import Range, SearchParams

SEARCHED = ("model", "train")
"""The sections of ``params.yaml`` whose keys can be varied."""
FIXED = ("model.family", "train.amp", "train.repeats", "train.seed")
"""Keys that are the same for all trials: families have different keys, the precision is the process's own, a trial is
one training, and its seed is no property to choose networks by."""
MOST_VALUES = 4096
"""Whole numbers of a range that are tried one by one for whether the network takes them."""


class Draw(Protocol):
    """What draws a value, as Optuna's `Trial` does."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Dimension:
    """One key and what it may be."""

    key: str
    """Dotted, as in ``train.phases.0.lr``."""
    choices: tuple[Any, ...] = ()
    """The values, where they are no even range."""
    low: float = 0
    high: float = 0
    step: int = 0
    """Between whole numbers; 0 for real ones."""
    log: bool = False

    def draw(self, trial: Draw) -> Any:
        """Return a value; the same for a trial that has drawn it before."""
        if self.choices:
            return json.loads(trial.suggest_categorical(self.key, [json.dumps(one) for one in self.choices]))
        if self.step:
            # Optuna draws either with a step or in the logarithm.
            log = self.log and self.step == 1
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=self.step, log=log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Space:
    """All dimensions of a search."""

    dimensions: tuple[Dimension, ...]
    base: Mapping[str, Any]
    """The values of ``params.yaml``."""

    def draw(self, trial: Draw) -> dict[str, Any]:
        """Return a value for each key."""
        return {dimension.key: dimension.draw(trial) for dimension in self.dimensions}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of ``params.yaml`` with those ``drawn`` in their places."""
        return _with(self.base, drawn)


def _with(base: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(dict(base))
    for key, value in drawn.items():
        put(values, key, value)
    return values


def put(values: Any, key: str, value: Any) -> None:
    """Set the dotted ``key`` in nested dictionaries and lists, in place.

    Raises:
        UserError: a part of the key names no place in them.
    """
    *path, last = key.split(".")
    place = values
    for position, part in enumerate(path):
        if isinstance(place, list):
            place = place[_index(place, part, key)]
        else:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        if not isinstance(place, (dict, list)):
            raise UserError(
                f"search.space: {key}: {'.'.join(path[: position + 1])} has no keys; name that itself"
            )
    if isinstance(place, list):
        place[_index(place, last, key)] = value
    else:
        place[last] = value


def _index(place: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise UserError(f"search.space: {key}: got {part!r}, allowed: 0 to {len(place) - 1}, counted from 0")
    return int(part)


def build_space(
    settings: SearchParams, base: Mapping[str, Any], check: Callable[[Mapping[str, Any]], None]
) -> Space:
    """Return the space of ``settings``; say which values of a range are left out since ``check`` refuses them.

    Args:
        base: the values of ``params.yaml``.
        check: raises `UserError` for values of ``params.yaml`` that cannot be trained.

    Raises:
        UserError: a key is none of ``params.yaml``, or a choice or all values of a range are refused.
    """
    dimensions = []
    for key, allowed in settings.space.items():
        _check_key(key)
        dimensions.append(_dimension(key, allowed, lambda value, key=key: _try(base, key, value, check)))  # type: ignore[misc]
    return Space(tuple(dimensions), base)


def _check_key(key: str) -> None:
    section = key.split(".")[0]
    if section not in SEARCHED or key == section:
        raise UserError(
            f"search.space: got {key}{did_you_mean(section, SEARCHED)}, allowed: keys of model and train, such as "
            "model.dim and train.phases.0.lr"
        )
    if key in FIXED:
        raise UserError(f"search.space: {key} cannot be searched, as all trials have the same; remove it")


def _dimension(key: str, allowed: Range | tuple[Any, ...], problem: Callable[[Any], str | None]) -> Dimension:
    if not isinstance(allowed, Range):
        for choice in allowed:
            if (found := problem(choice)) is not None:
                raise UserError(f"search.space: {key}: {found}")
        return Dimension(key, allowed)
    if isinstance(allowed.low, int) and isinstance(allowed.high, int):
        return _whole(key, allowed.low, allowed.high, allowed.log, problem)
    for end in (allowed.low, allowed.high):
        if (found := problem(float(end))) is not None:
            raise UserError(f"search.space: {key}: {found}")
    return Dimension(key, low=float(allowed.low), high=float(allowed.high), log=allowed.log)


def _whole(key: str, low: int, high: int, log: bool, problem: Callable[[Any], str | None]) -> Dimension:
    if high - low >= MOST_VALUES:
        raise UserError(
            f"search.space: {key}: {low} to {high} are more than {MOST_VALUES} whole numbers; write a list of choices"
        )
    problems = {value: problem(value) for value in range(low, high + 1)}
    taken = tuple(value for value, found in problems.items() if found is None)
    if not taken:
        raise UserError(f"search.space: {key}: no value from {low} to {high} is allowed: {problems[low]}")
    if len(taken) < len(problems):
        shown = ", ".join(map(str, taken[:12])) + (", ..." if len(taken) > 12 else "")
        print(f"search.space: {key}: of {low} to {high} these are allowed: {shown}", flush=True)
    steps = {after - before for before, after in pairwise(taken)}
    if len(steps) > 1:
        return Dimension(key, taken)
    return Dimension(key, low=taken[0], high=taken[-1], step=next(iter(steps), 1), log=log)


def _try(
    base: Mapping[str, Any], key: str, value: Any, check: Callable[[Mapping[str, Any]], None]
) -> str | None:
    """Return what is wrong with ``value`` at ``key`` when all else is as in ``base``."""
    try:
        check(_with(base, {key: value}))
    except UserError as error:
        return one_line(error)
    return None


def shown(value: object) -> str:
    """Return a drawn value as people read it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
