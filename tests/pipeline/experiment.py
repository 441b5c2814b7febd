"""A trained experiment small enough to make in a second: prepared shards, a checkpoint, curves, a store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import wavemix
from pipeline.checkpoints.trained import describe, save_trained
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.targets import IGNORE
from pipeline.params import Params, parse_params
from pipeline.tasks import TASKS
from pipeline.tasks.network import network_spec
from pipeline.tracking.names import tracking_uri
from pipeline.tracking.run import Tracker
from tests.pipeline.shards import write_splits

CLASSES = ["zero", "pipe|and <b>", "two", "three", "four", "five"]
SIZE = (12, 16)
SAMPLES = {"train": 12, "val": 9, "test": 10}


def toy_params(task: str) -> Params:
    dataset = {"reader": "image_folder", "sizes": [list(SIZE)]}
    stride = 2 if task == "segmentation" else 1
    return parse_params(
        {
            "data": "toy",
            "datasets": {"toy": dataset},
            "model": {"dim": 8, "depth": 1, "stem_stride": stride},
            "train": {"batch_size": 4, "amp": "off", "phases": [{"optimizer": "adamw", "epochs": 1}]},
        }
    )


def write_toy_shards(folder: Path, task: str, splits: dict[str, int]) -> Manifest:
    """Random images in shards of at most six; masks have ignored pixels and no pixel of the last class."""
    generator = np.random.default_rng(0)
    drawn = {}
    for split, count in splits.items():
        images = generator.integers(0, 256, (count, *SIZE, 3)).astype(np.uint8)
        targets = np.arange(count) % len(CLASSES)
        if task == "segmentation":
            targets = generator.integers(0, len(CLASSES) - 1, (count, *SIZE)).astype(np.uint8)
            targets[generator.random(targets.shape) < 0.2] = IGNORE
        drawn[split] = images, targets
    return write_splits(folder, task, CLASSES, drawn, per_shard=6)


def toy_network(task: str) -> wavemix.WaveMixLite:
    torch.manual_seed(0)
    outputs = TASKS[task].outputs(len(CLASSES))
    stride = 2 if task == "segmentation" else 1
    config = wavemix.ModelConfig(task=task, num_classes=outputs, dim=8, depth=1, stem_stride=stride)
    return wavemix.build_model(config).eval()


def make_experiment(folder: Path, task: str, *, run: bool, splits: dict[str, int] | None = None) -> Params:
    """Fill ``folder``, the working folder, with what a finished training leaves; ``run`` in the store too."""
    params = toy_params(task)
    (folder / "dvc.yaml").touch()
    manifest = write_toy_shards(shards_folder("toy", SIZE), task, splits or SAMPLES)
    run_id = None
    if run:
        tracker = Tracker(tracking_uri(params), "toy", folder / "journal")
        tracker.start(name="toy run")
        tracker.log_params({"train.batch_size": str(params.train.batch_size)})
        tracker.log_metrics({"epoch": 2, "parameters": 1234}, 2)
        tracker.finish()
        run_id = tracker.run_id
    network = toy_network(task)
    trained = describe(
        manifest,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        epoch=2,
        step=2,
        metric=f"val/{TASKS[task].metric}",
        value=0.25,
        run_id=run_id,
    )
    save_trained(network, params.model, network_spec(params, manifest), trained, Path("checkpoints/best"))
    Path("reports").mkdir()
    Path("reports/curves.csv").write_text(
        "epoch,step,train/loss,val/loss,val/top1,learning_rate\n1,1,2.0,2.1,0.1,0.001\n2,2,1.5,,0.25,0.001\n"
    )
    cost = {"where": {"device": "cpu"}, "figures": {"kept_for_backward_mb": {"value": 1.5, "how": "counted"}}}
    Path("reports/benchmark.json").write_text(json.dumps(cost))
    Path("reports/benchmark.md").write_text("1.5 MB an image\n")
    return params
