"""The records of a training: its run in MLflow, and the run over all repeats."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.checkpoints.trained import Trained
from pipeline.core.device import device_name
from pipeline.core.hashing import configuration_hash
from pipeline.core.paths import work_folder
from pipeline.data.shards.manifest import FILE_NAME
from pipeline.params import Params
from pipeline.tasks.base import class_weights
from pipeline.tracking import names
from pipeline.tracking.base import NullTracking, Tracking
from pipeline.tracking.params_file import shareable_params
from pipeline.tracking.run import Tracker
from pipeline.train.sources import Sources
from pipeline.train.training import Training


def open_run(training: Training, sources: Sources, more_tags: Mapping[str, str]) -> Tracking:
    """Start the run of ``training``, or resume it; only the first process has one."""
    params = training.params
    uri, journal = names.tracking_uri(params), training.work / "mlflow"
    first = training.processes.is_first
    tracker: Tracking = Tracker(uri, params.data, journal) if first else NullTracking()
    tags = {
        **names.source_tags(),
        **more_tags,
        **({"pretrained.hash": sources.pretrained[:32]} if sources.pretrained else {}),
        "data.hash": sources.digest[:32],
        "device": device_name(training.device),
        "amp": training.amp,
        "torch": torch.__version__,
        "processes": str(training.processes.world_size),
    }
    tracker.start(name=names.run_name(params), tags=tags)
    return tracker


def log_inputs(tracker: Tracking, training: Training, sources: Sources) -> None:
    """Log the params, the data and the network's size; print them in one line."""
    params, manifest, network = training.params, training.manifest, training.state.network
    chosen = params.model_dump(mode="json", include={"data", "model", "train"})
    # The values that null stood for: the rows of the paper are found by them.
    chosen["model"] = params.model.resolved(training.spec).model_dump(mode="json")
    chosen["image_size"] = list(training.spec.size)
    tracker.log_params(names.flatten({**chosen, "dataset": params.dataset.model_dump(mode="json")}))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    tracker.log_metrics({"parameters": parameters})
    tracker.log_dataset(params.data, sources.digest, str(sources.folder), "train")
    tracker.log_artifact(sources.folder / FILE_NAME, "data")
    tracker.log_text(shareable_params(Path("params.yaml")), "params.yaml")
    if training.processes.is_first:
        height, width = manifest.size
        print(
            f"{params.model.label} ({parameters:,} parameters) on {manifest.dataset} "
            f"{height}x{width}: {manifest.split('train').samples:,} train, {manifest.split('val').samples:,} val; "
            f"{device_name(training.device)}, amp {training.amp}, {training.processes.world_size} process(es)"
        )
        if (weights := class_weights(params.train, manifest)) is not None:
            print(f"class weights: {weights.describe(manifest.class_names)}")
        for warning in manifest.warnings():
            print(f"warning: {warning}")


def open_parent(params: Params, sources: Sources, more_tags: Mapping[str, str], trainings: int) -> Tracker:
    """Start the run that holds the runs of all repeats and folds."""
    work = work_folder("train", configuration_hash("repeats", params.model, params.train, sources.digest))
    tracker = Tracker(names.tracking_uri(params), params.data, work / "mlflow")
    name = f"{names.run_name(params)}, {trainings} {'folds' if params.train.fold == 'all' else 'repeats'}"
    tracker.start(name=name, tags={**names.source_tags(), **more_tags, "data.hash": sources.digest[:32]})
    return tracker


def close_parent(tracker: Tracker, trained: list[Trained]) -> None:
    """Log best, mean and standard deviation over all trainings (the paper reports the best of three); end the run."""
    values = [one.value for one in trained]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    name = trained[0].metric
    tracker.log_metrics({f"{name}/best": max(values), f"{name}/mean": mean, f"{name}/std": deviation})
    tracker.finish()
    print(f"{name} of {len(values)} trainings: best {max(values):.4f}, mean {mean:.4f} +- {deviation:.4f}")
    shutil.rmtree(tracker.journal.parent)
