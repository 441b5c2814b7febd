"""One training as an experiment: data in, trained network, curves and an MLflow run out."""

from __future__ import annotations

import csv
import shutil
import signal
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.checkpoints import result_cache
from pipeline.checkpoints.pretrained import weights_digest
from pipeline.checkpoints.trained import Trained, load_trained
from pipeline.core.atomic import atomic_folder
from pipeline.core.device import device_name
from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash, file_sha256
from pipeline.core.locks import exclusive_lock
from pipeline.core.paths import work_folder
from pipeline.core.process import is_first_process
from pipeline.core.source_code import NEUTRAL, source_digest
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.params import Params
from pipeline.tasks.network import network_spec
from pipeline.tracking import names, run
from pipeline.train.batch_size import resolve_batch_size
from pipeline.train.trainer import Stopped, Trainer


@dataclass(frozen=True)
class Data:
    """What a training is given, read once, as it begins."""

    folder: Path
    """Of the shards."""
    manifest: Manifest
    digest: str
    """SHA-256 of the manifest."""
    pretrained: str | None
    """SHA-256 of the weights that it starts from."""


def train_once(params: Params, out: Path, curves: Path) -> Trained:
    """What `train` gives; where the same training is being done it is waited for, where it was done it is taken.

    DVC clears ``out`` and ``curves`` before it trains. Killed before it recorded them, it shall not have to train
    again; and what a killed DVC leaves behind may still be at work.
    """
    data = _read_data(params)
    works = [_work(one, data) for one in _each_repeat(params)]
    locks = [work.with_suffix(".lock") for work in works] if is_first_process() else []
    with exclusive_lock(*locks, wait=True):
        return _take_finished(params, data, works, out, curves) or train(params, out, curves)


def train(params: Params, out: Path, curves: Path) -> Trained:
    """Train the network of ``params`` on its prepared data, ``train.repeats`` times with seeds one after another.

    Writes the best network to ``out`` and a row per epoch of its training to ``curves`` (CSV), and keeps both until
    `finished.forget`. An unfinished training of the same params and data is gone on with; with other params or data it
    starts anew.

    Raises:
        UserError: data or params do not fit.
        SystemExit: a signal came (128 + its number); the state is saved.
    """
    data = _read_data(params)
    folder = _finished(params, data)  # named after the code that trains, whatever is edited meanwhile
    each = _each_repeat(params)
    works = [_work(one, data) for one in each]
    parent = _open_parent(params, data) if params.train.repeats > 1 else None
    parent_id = parent.run_id if parent else None
    kept = works[0] / "batch_size"
    ended = [_train_repeat(one, data, work, kept, parent_id) for one, work in zip(each, works, strict=True)]
    best, best_work = max(zip(ended, works, strict=True), key=lambda pair: pair[0].value)
    if is_first_process():
        if parent:
            _close_parent(parent, ended)
        with atomic_folder(folder) as part:
            shutil.copytree(best_work / "best", part, dirs_exist_ok=True)
            shutil.copyfile(best_work / result_cache.CURVES, part / result_cache.CURVES)
        for work in works:
            shutil.rmtree(work)
        result_cache.copy_outputs(folder, out, curves)
    return best


def _take_finished(params: Params, data: Data, works: list[Path], out: Path, curves: Path) -> Trained | None:
    """What `train` wrote for the same params and data with the same code, written again where it is still kept."""
    folder = _finished(params, data)
    if not folder.exists():
        return None
    if is_first_process():
        for work in works:
            shutil.rmtree(work, ignore_errors=True)
        result_cache.copy_outputs(folder, out, curves)
        print(
            f"this training had ended before: its result is taken from {folder}; delete that to train it again"
        )
    return load_trained(folder).trained


def _read_data(params: Params) -> Data:
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    pretrained = weights_digest(params.pretrained) if params.pretrained else None
    return Data(folder, manifest, file_sha256(folder / FILE_NAME), pretrained)


def _finished(params: Params, data: Data) -> Path:
    """Where the whole training, all its repeats, is kept when it has ended."""
    code = source_digest([__name__], ("pipeline", "wavemix"), NEUTRAL)
    return result_cache.folder(_work(params, data).name, code)


def _each_repeat(params: Params) -> list[Params]:
    """The params of each repeat: the seeds count up, all else is the same."""
    settings = params.train
    seeds = range(settings.seed, settings.seed + settings.repeats)
    each = [settings.model_copy(update={"seed": seed, "repeats": 1}) for seed in seeds]
    return [params.model_copy(update={"train": one}) for one in each]


def _work(params: Params, data: Data) -> Path:
    return work_folder("train", configuration_hash(params.model, params.train, data.digest, data.pretrained))


def _train_repeat(params: Params, data: Data, work: Path, kept: Path, parent_id: str | None) -> Trained:
    """One training to its end, or what it gave if it was finished before. All repeats have ``kept``'s batch size.

    Leaves the best network in ``work / "best"`` and a row per epoch in ``work / finished.CURVES``.
    """
    outcome = work / "outcome.json"
    if outcome.exists():
        return Trained.model_validate_json(outcome.read_bytes())
    params = resolve_batch_size(params, data.manifest, kept)
    trainer = Trainer(params, data.manifest, data.folder, work)
    trained = _run(trainer, params, data, work, parent_id)
    if trainer.rank == 0:
        outcome.with_suffix(".part").write_text(trained.model_dump_json())
        outcome.with_suffix(".part").replace(outcome)
    trainer.accelerator.wait_for_everyone()
    return trained


def _run(trainer: Trainer, params: Params, data: Data, work: Path, parent_id: str | None) -> Trained:
    """Train to the end, as a run in MLflow.

    Raises:
        SystemExit: a signal came (128 + its number); the state is saved.
    """
    tracker = run.Tracker(names.tracking_uri(params), params.data, work / "mlflow", trainer.rank == 0)
    tracker.start(name=names.run_name(params), tags=_tags(trainer, data, parent_id))
    status = "FAILED"
    try:
        _log_inputs(tracker, params, data, trainer)
        trained = trainer.run(tracker)
        status = "FINISHED"
        return trained
    except (Stopped, KeyboardInterrupt) as stopped:
        status = "KILLED"
        received = stopped.received if isinstance(stopped, Stopped) else signal.SIGINT
        print(
            f"stopped by {received.name} at step {trainer.progress.step}: run the same again to go on from there"
        )
        raise SystemExit(128 + received) from None
    finally:
        if status == "FINISHED" and trainer.rank == 0:
            _write_curves(trainer.progress.curves, work / result_cache.CURVES)
            tracker.log_artifact(work / result_cache.CURVES)
            tracker.log_artifact(trainer.best_folder, "checkpoint")
        tracker.finish(status)


def _tags(trainer: Trainer, data: Data, parent_id: str | None) -> dict[str, str]:
    return {
        **names.source_tags(),
        **({"mlflow.parentRunId": parent_id} if parent_id else {}),
        **({"pretrained.hash": data.pretrained[:32]} if data.pretrained else {}),
        "data.hash": data.digest[:32],
        "device": device_name(trainer.device),
        "amp": trainer.amp,
        "torch": torch.__version__,
        "processes": str(trainer.world_size),
    }


def _log_inputs(tracker: run.Tracker, params: Params, data: Data, trainer: Trainer) -> None:
    manifest = data.manifest
    chosen = params.model_dump(mode="json", include={"data", "model", "train"})
    # The values that null stood for: the rows of the paper are found by them.
    resolved = params.model.resolved(network_spec(params, manifest))
    chosen["model"] = resolved.model_dump(mode="json")
    tracker.log_params(names.flatten({**chosen, "dataset": params.dataset.model_dump(mode="json")}))
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    tracker.log_metrics({"parameters": parameters})
    tracker.log_dataset(params.data, data.digest, str(data.folder), "train")
    tracker.log_artifact(data.folder / FILE_NAME, "data")
    tracker.log_artifact(Path("params.yaml"))
    if trainer.rank == 0:
        height, width = manifest.size
        print(
            f"{params.model.label} ({parameters:,} parameters) on {manifest.dataset} "
            f"{height}x{width}: {manifest.split('train').samples:,} train, {manifest.split('val').samples:,} val; "
            f"{device_name(trainer.device)}, amp {trainer.amp}, {trainer.world_size} process(es)"
        )


def _open_parent(params: Params, data: Data) -> run.Tracker:
    """The run that holds the runs of all repeats."""
    work = work_folder("train", configuration_hash("repeats", params.model, params.train, data.digest))
    tracker = run.Tracker(names.tracking_uri(params), params.data, work / "mlflow")
    name = f"{names.run_name(params)}, {params.train.repeats} repeats"
    tracker.start(name=name, tags={**names.source_tags(), "data.hash": data.digest[:32]})
    return tracker


def _close_parent(tracker: run.Tracker, trained: list[Trained]) -> None:
    """Best, mean and standard deviation over the repeats (the paper reports the best of three)."""
    values = [one.value for one in trained]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    name = trained[0].metric
    tracker.log_metrics({f"{name}/best": max(values), f"{name}/mean": mean, f"{name}/std": deviation})
    tracker.finish()
    print(f"{name} of {len(values)} repeats: best {max(values):.4f}, mean {mean:.4f} +- {deviation:.4f}")
    shutil.rmtree(tracker.journal.parent)


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
