"""The trainings of a comparison, shared by as many processes as run it.

A training's result is a file named by all that decides it, so that a comparison that gains a network or a seed trains
only what is new.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from pipeline.checkpoints import result_cache
from pipeline.compare.comparison import Comparison
from pipeline.compare.costs import Costs, measure_costs
from pipeline.compare.entrants import Entrant
from pipeline.compare.lengths import epoch_seconds, fill
from pipeline.core.atomic import write_atomically
from pipeline.core.errors import UserError, one_line
from pipeline.core.locks import exclusive_lock
from pipeline.params import Params
from pipeline.profiling.probe import Probe
from pipeline.tracking import names
from pipeline.tracking.parent import start_parent
from pipeline.train.experiment import train_once
from pipeline.train.observers.notes import Notes

TURNS = 3
"""Times that each network is timed before the trainings."""

Job = tuple[Entrant, int]
"""A network and a seed."""


def run_comparison(comparison: Comparison) -> list[str]:
    """Measure the networks, and train those whose results are missing; return what failed, a line each.

    Other processes may do the same at the same time. A signal ends the process, and the next call resumes.

    Raises:
        UserError: nothing could be measured.
    """
    with comparison.alone():
        costs = _measured(comparison)
        _open_parent(comparison)
    left_out = [entrant.name for entrant in comparison.entrants if entrant.key not in costs]
    failed = [f"{name}: could not be measured, see above" for name in left_out]
    jobs = [
        (entrant, seed)
        for seed in comparison.seeds
        for entrant in comparison.entrants
        if entrant.key in costs
    ]
    tried: list[Job] = []
    while True:
        with _claim(comparison, [job for job in jobs if job not in tried]) as job:
            if job is None:
                return failed
            tried.append(job)
            try:
                _train(comparison, *job, len(jobs))
            except UserError as error:
                failed.append(f"{job[0].name}, seed {job[1]}: {one_line(error)}")
                print(failed[-1], flush=True)


def _measured(comparison: Comparison) -> Costs:
    """Return the costs of all networks; measure them, all in turns, where one is missing."""
    record = comparison.folder / "costs.json"
    _, known = comparison.measured()
    if any(one.key not in known or len(known[one.key].training) < TURNS for one in comparison.entrants):
        record.unlink(missing_ok=True)  # those measured alone would not be comparable
        build = {entrant.key: partial(_probe, comparison, entrant) for entrant in comparison.entrants}
        called = {entrant.key: entrant.name for entrant in comparison.entrants}
        known = measure_costs(build, comparison.setting, TURNS, record, lambda _: None, called.__getitem__)
    _keep_lengths(comparison, known)
    return known


def _probe(comparison: Comparison, entrant: Entrant) -> Probe:
    setting = comparison.setting
    return Probe(entrant.params, comparison.manifest, setting.device, setting.amp)


def _keep_lengths(comparison: Comparison, costs: Costs) -> None:
    """Note what an epoch of each network takes, once: the length of a training must not change under it."""
    path = comparison.folder / "epoch_seconds.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    for entrant in comparison.entrants:
        if entrant.key in costs and entrant.key not in noted:
            noted[entrant.key] = epoch_seconds(costs[entrant.key], comparison.params, comparison.manifest)
    write_atomically(path, json.dumps(noted, indent=2) + "\n")


def training_params(comparison: Comparison, entrant: Entrant, seed: int) -> Params:
    """Return the params of one training; call it once the networks are measured."""
    train = entrant.params.train.model_copy(update={"seed": seed, "repeats": 1})
    params = entrant.params.model_copy(update={"train": train})
    if comparison.minutes is None:
        return params
    noted = json.loads((comparison.folder / "epoch_seconds.json").read_text())
    return fill(params, comparison.manifest, 60 * comparison.minutes, noted[entrant.key])


@contextmanager
def _claim(comparison: Comparison, jobs: Sequence[Job]) -> Iterator[Job | None]:
    """Yield the first of ``jobs`` without a result that no other process is at, while the block runs."""
    with ExitStack() as held:
        with comparison.alone():
            job = next((one for one in jobs if _is_free(comparison, *one, held)), None)
        yield job


def _is_free(comparison: Comparison, entrant: Entrant, seed: int, held: ExitStack) -> bool:
    result = comparison.result_file(entrant, seed)
    if result.exists():
        return False
    try:
        held.enter_context(exclusive_lock(comparison.work / f"{result.stem}.lock"))
    except UserError:  # another process is at it
        return False
    return True


def _train(comparison: Comparison, entrant: Entrant, seed: int, jobs: int) -> None:
    """Train ``entrant`` with ``seed`` and note its result."""
    done = sum(len(comparison.results(one)) for one in comparison.entrants)
    print(f"{entrant.name}, seed {seed}: training {done + 1} of {jobs}", flush=True)
    result = comparison.result_file(entrant, seed)
    folder = comparison.work / result.stem
    notes_file = folder / "notes.json"
    notes: dict[str, Any] = json.loads(notes_file.read_text()) if notes_file.exists() else {}

    def note(key: str, value: Any) -> None:
        notes[key] = value
        write_atomically(notes_file, json.dumps(notes))

    tags = {"compare.network": entrant.name, **names.child_of(comparison.run_id)}
    torch._dynamo.reset()  # what was compiled for the networks before is of no use
    params = training_params(comparison, entrant, seed)
    best, curves = folder / "best", folder / result_cache.CURVES
    trained = train_once(params, best, curves, [Notes(f"val/{comparison.metric}", note, notes)], tags)
    content = {**notes, "name": entrant.name, "seed": seed, "run_id": trained.run_id}
    write_atomically(result, json.dumps(content, indent=2) + "\n")
    result_cache.forget(best)
    shutil.rmtree(folder, ignore_errors=True)


def _open_parent(comparison: Comparison) -> None:
    """Start the comparison's run in MLflow, once for all processes."""
    if comparison.run_id is not None:
        return
    shown = comparison.params.model_dump(mode="json", include={"train"})
    params = {**shown, "compare": {"minutes": comparison.minutes}}
    run_id = start_parent(comparison.tracker(), f"compare {comparison.folder.name}", params)
    if run_id is not None:
        write_atomically(comparison.folder / "run_id", run_id)
