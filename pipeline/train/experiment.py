"""One training as an experiment: data in, trained network, curves and an MLflow run out."""

from __future__ import annotations

import csv
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.checkpoints import result_cache
from pipeline.checkpoints.trained import DESCRIPTION, Trained
from pipeline.core.atomic import atomic_folder, write_atomically
from pipeline.core.device import choose_device
from pipeline.core.errors import UserError
from pipeline.core.locks import exclusive_lock
from pipeline.data.shards.folds import chosen_folds
from pipeline.params import Params
from pipeline.tracking import names
from pipeline.train import record
from pipeline.train.batch_size import resolve_batch_size
from pipeline.train.observers.base import EndTraining, Observer
from pipeline.train.processes import Processes
from pipeline.train.sources import Sources, read_sources
from pipeline.train.trainer import Stopped, Trainer
from pipeline.train.training import prepare_training


def train_once(
    params: Params,
    out: Path,
    curves: Path,
    observers: Sequence[Observer] = (),
    tags: Mapping[str, str] | None = None,
) -> Trained:
    """Return what `train` gives; take it where the same training was done, wait where it is being done.

    DVC clears ``out`` and ``curves`` before it trains. Killed before it recorded them, it shall not have to train
    again; and what a killed DVC leaves behind may still be at work.

    Args:
        tags: of its run in MLflow, besides those that every training has.

    Raises:
        EndTraining: an observer raised it; nothing is kept.
    """
    names.tracking_uri(params)  # a store that MLflow cannot use is refused before any work
    processes = Processes(choose_device(params.machine.device))
    sources = read_sources(params, processes)
    works = [sources.work(one) for one in _each(params, sources)]
    locks = [work.with_suffix(".lock") for work in works] if processes.is_first else []
    with exclusive_lock(*locks, wait=True):
        finished = processes.from_first(lambda: _take_finished(params, sources, works, out, curves))
        return finished or _train(params, sources, processes, out, curves, observers, tags or {})


def train(params: Params, out: Path, curves: Path, observers: Sequence[Observer] = ()) -> Trained:
    """Train the network of ``params`` on its prepared data, ``train.repeats`` times with seeds one after another.

    Writes the best network to ``out`` and a row per epoch of its training to ``curves`` (CSV), and keeps both until
    `result_cache.forget`. An unfinished training of the same params and data is resumed; with other params or data it
    starts anew.

    Raises:
        UserError: data or params do not fit.
        SystemExit: a signal came (128 + its number); the state is saved.
        EndTraining: an observer raised it; nothing is kept.
    """
    processes = Processes(choose_device(params.machine.device))
    return _train(params, read_sources(params, processes), processes, out, curves, observers, {})


def _train(
    params: Params,
    sources: Sources,
    processes: Processes,
    out: Path,
    curves: Path,
    observers: Sequence[Observer],
    tags: Mapping[str, str],
) -> Trained:
    each = _each(params, sources)
    works = [sources.work(one) for one in each]
    for warning in sources.prepared.warnings() if processes.is_first else ():
        print(f"warning: {params.data}: {warning}", flush=True)
    parent = (
        record.open_parent(params, sources, tags, len(each)) if processes.is_first and len(each) > 1 else None
    )
    run_tags = {**tags, **(names.child_of(parent.run_id) if parent else {})}
    kept = works[0] / "batch_size"
    try:
        ended = [_train_repeat(one, sources, processes, kept, run_tags, observers) for one in each]
    except EndTraining:
        for work in works if processes.is_first else ():
            shutil.rmtree(work, ignore_errors=True)
        raise
    best, best_work = max(zip(ended, works, strict=True), key=lambda pair: pair[0].value)
    if processes.is_first:
        if parent:
            record.close_parent(parent, ended)
        folder = sources.result(params)
        with atomic_folder(folder) as part:
            shutil.copytree(best_work / "best", part, dirs_exist_ok=True)
            shutil.copyfile(best_work / result_cache.CURVES, part / result_cache.CURVES)
        for work in works:
            shutil.rmtree(work)
        result_cache.copy_outputs(folder, out, curves)
    return best


def _take_finished(
    params: Params, sources: Sources, works: Sequence[Path], out: Path, curves: Path
) -> Trained | None:
    """Write again what `train` gave for the same params and data with the same code, where it is still kept."""
    folder = sources.result(params)
    if not folder.exists():
        return None
    for work in works:
        shutil.rmtree(work, ignore_errors=True)
    result_cache.copy_outputs(folder, out, curves)
    print(f"this training had ended before: its result is taken from {folder}; delete that to train it again")
    return Trained.model_validate_json((folder / DESCRIPTION).read_bytes())


def _each(params: Params, sources: Sources) -> list[Params]:
    """Return the params of each training: of each fold that is asked for, and of each seed, which count up."""
    settings = params.train
    seeds = range(settings.seed, settings.seed + settings.repeats)
    each = [
        settings.model_copy(update={"seed": seed, "repeats": 1, "fold": fold})
        for fold in chosen_folds(sources.prepared, settings.fold)
        for seed in seeds
    ]
    return [params.model_copy(update={"train": one}) for one in each]


def _train_repeat(
    params: Params,
    sources: Sources,
    processes: Processes,
    kept: Path,
    tags: Mapping[str, str],
    observers: Sequence[Observer],
) -> Trained:
    """Run one training to its end, or take its result if it had finished. All repeats have ``kept``'s batch size.

    Leaves the best network in ``best`` of its work folder, and a row per epoch in `result_cache.CURVES`.
    """
    work = sources.work(params)
    outcome = work / "outcome.json"
    known = processes.from_first(lambda: outcome.read_text() if outcome.exists() else None)
    if known is not None:
        return Trained.model_validate_json(known)
    manifest = sources.manifest(params)
    params = resolve_batch_size(params, manifest, kept, processes)
    training = prepare_training(params, manifest, sources.folder, work, processes)
    tracker = record.open_run(training, sources, tags)
    trainer = Trainer(training, tracker, observers)
    status = "FAILED"
    try:
        record.log_inputs(tracker, training, sources)
        trained = trainer.run()
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt) as stopped:
        status = "KILLED"
        received = stopped.received if isinstance(stopped, Stopped) else signal.SIGINT
        print(f"stopped by {received.name} at step {trainer.progress.step}: run the same again to resume")
        raise SystemExit(128 + received) from None
    except EndTraining:
        status = "KILLED"
        raise
    finally:
        if status == "FINISHED" and processes.is_first:
            _write_curves(trainer.progress.curves, work / result_cache.CURVES)
            tracker.log_artifact(work / result_cache.CURVES)
            tracker.log_artifact(trainer.best_folder, "checkpoint")
        tracker.finish(status)
    if processes.is_first:
        write_atomically(outcome, trained.model_dump_json())
    return trained


def _write_curves(rows: list[dict[str, float]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not rows:
        raise UserError(
            "train.phases: no epoch was finished, so there is nothing to evaluate; make a phase longer"
        )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
