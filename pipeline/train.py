"""One training as an experiment: data in, trained network, curves and an MLflow run out."""

from __future__ import annotations

import csv
import hashlib
import shutil
import signal
from pathlib import Path

import torch

from pipeline import tracking
from pipeline.checkpoint import Trained
from pipeline.errors import UserError
from pipeline.machine import device_name
from pipeline.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.params import Params, configuration_hash
from pipeline.paths import shards_folder, work_folder
from pipeline.trainer import Stopped, Trainer


def train(params: Params, out: Path, curves: Path) -> Trained:
    """Train the network of ``params`` on its prepared data.

    Writes the best network to ``out`` and a row per epoch to ``curves`` (CSV). An unfinished training of the same
    params and data is gone on with; with other params or data it starts anew.

    Raises:
        UserError: data or params do not fit.
        SystemExit: a signal came (128 + its number); the state is saved.
    """
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    digest = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
    work = work_folder("train", configuration_hash(params.model, params.train, digest))
    trainer = Trainer(params, manifest, folder, work)
    tracker = tracking.Tracker(tracking.tracking_uri(params), params.data, work / "mlflow", trainer.rank == 0)
    tracker.start(name=tracking.run_name(params), tags=_tags(trainer, digest))
    status = "FAILED"
    try:
        _log_inputs(tracker, params, manifest, trainer, folder, digest)
        trained = trainer.run(tracker)
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt) as stopped:
        status = "KILLED"
        received = stopped.received if isinstance(stopped, Stopped) else signal.SIGINT
        print(
            f"stopped by {received.name} at step {trainer.progress.step}: run the same again to go on from there"
        )
        raise SystemExit(128 + received) from None
    finally:
        if status == "FINISHED" and trainer.rank == 0:
            _write_curves(trainer.progress.curves, curves)
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(trainer.best_folder, out)
            tracker.log_artifact(curves)
            tracker.log_artifact(out, "checkpoint")
        tracker.finish(status)
    trainer.accelerator.wait_for_everyone()
    if trainer.rank == 0:
        shutil.rmtree(work)
    trainer.accelerator.end_training()
    return trained


def _tags(trainer: Trainer, digest: str) -> dict[str, str]:
    return {
        **tracking.source_tags(),
        "data.hash": digest[:32],
        "device": device_name(trainer.device),
        "amp": trainer.amp,
        "torch": torch.__version__,
        "processes": str(trainer.world_size),
    }


def _log_inputs(
    tracker: tracking.Tracker, params: Params, manifest: Manifest, trainer: Trainer, folder: Path, digest: str
) -> None:
    chosen = params.model_dump(mode="json", include={"data", "model", "train"})
    tracker.log_params(tracking.flatten({**chosen, "dataset": params.dataset.model_dump(mode="json")}))
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    tracker.log_metrics({"parameters": parameters}, 0)
    tracker.log_dataset(params.data, digest, str(folder), "train")
    tracker.log_artifact(folder / FILE_NAME, "data")
    tracker.log_artifact(Path("params.yaml"))
    if trainer.rank == 0:
        height, width = manifest.size
        print(
            f"WaveMix-Lite {params.model.dim}/{params.model.depth} ({parameters:,} parameters) on {manifest.dataset} "
            f"{height}x{width}: {manifest.split('train').samples:,} train, {manifest.split('val').samples:,} val; "
            f"{device_name(trainer.device)}, amp {trainer.amp}, {trainer.world_size} process(es)"
        )


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
