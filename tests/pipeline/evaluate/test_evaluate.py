"""A checkpoint measured: against the figures counted by hand from the network's own logits, and in bad cases."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import confusion_matrix

from pipeline.checkpoints.trained import load_trained
from pipeline.core.errors import UserError
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.data.shards.targets import IGNORE
from pipeline.evaluate import evaluation
from pipeline.evaluate.evaluation import evaluate
from pipeline.models.flip import flip_average
from pipeline.models.inputs import normalise
from pipeline.params import Params
from tests import ROOT

CHECKPOINT, REPORTS = Path("checkpoints/best"), Path("reports")


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "log", lambda *_: None)


def by_hand(params: Params, split: str) -> Any:
    """Truth and prediction of every sample or pixel that counts, in one go."""
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    model = load_trained(CHECKPOINT).network
    (batch,) = evaluation_batches(folder, manifest, split, 10**6)
    with torch.no_grad():
        logits = model(normalise(batch.image, manifest.mean, manifest.std))
    predicted = logits[:, : manifest.num_classes].argmax(1)
    counts = batch.target != IGNORE
    return batch.target[counts].numpy(), predicted[counts].numpy()


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_figures_are_those_counted_by_hand(experiment: Callable[..., Params], task: str) -> None:
    params = experiment(task, splits={"train": 6, "val": 5})
    trained, measured = evaluate(params, CHECKPOINT, REPORTS)
    truth, predicted = by_hand(params, "val")
    expected = confusion_matrix(truth, predicted, labels=range(6))
    assert measured.split == "val"
    assert measured.metrics.confusion.tolist() == expected.tolist()
    written = json.loads((REPORTS / "metrics.json").read_text())
    name = "top1" if task == "classification" else "pixel_accuracy"
    assert written["val"][name] == pytest.approx((truth == predicted).mean(), abs=1e-6)
    assert written["parameters"] == trained.parameters
    with (REPORTS / "confusion.csv").open(newline="") as file:
        cells = {(row["actual"], row["predicted"]): int(row["count"]) for row in csv.DictReader(file)}
    assert sum(cells.values()) == expected.sum()
    with (REPORTS / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["actual"]) for row in rows] == expected.sum(1).tolist()
    assert rows[1]["class"] == "pipe|and <b>"


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize(("trained", "edited", "accumulate", "part"), [(8, "auto", 1, 8), (8, 512, 4, 2)])
def test_it_takes_no_more_images_at_once_than_the_training_did(
    experiment: Callable[..., Params],
    monkeypatch: pytest.MonkeyPatch,
    trained: int,
    edited: int | str,
    accumulate: int,
    part: int,
) -> None:
    params = experiment("classification", splits={"train": 6, "val": 5})
    description = CHECKPOINT / "training.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"batch_size": trained}))
    seen: list[int] = []

    def spy(*arguments: Any) -> Any:
        seen.append(arguments[3])
        return evaluation_batches(*arguments)

    monkeypatch.setattr(evaluation, "evaluation_batches", spy)
    settings = params.train.model_copy(update={"batch_size": edited, "accumulate": accumulate})
    evaluate(params.model_copy(update={"train": settings}), CHECKPOINT, REPORTS)
    assert seen == [part]


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_test_is_the_split_reported_and_val_is_beside_it(
    experiment: Callable[..., Params], task: str
) -> None:
    params = experiment(task)
    _, measured = evaluate(params, CHECKPOINT, REPORTS)
    assert (measured.split, measured.samples) == ("test", 10)
    assert {"val", "test"} <= set(json.loads((REPORTS / "metrics.json").read_text()))
    pictures = {path.stem for path in (REPORTS / "evaluate").glob("*.png")}
    assert pictures == {"confusion", "per_class", "predictions", "mistakes"} | (
        {"calibration"} if task == "classification" else set()
    )


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_pictures_show_samples_from_all_over_and_the_worst_first(
    experiment: Callable[..., Params], task: str
) -> None:
    _, measured = evaluate(experiment(task), CHECKPOINT, REPORTS)
    examples = measured.examples
    assert len(examples.spread) == (10 if task == "classification" else 5)  # every one; every second of ten
    badness = [value for value, _ in examples.mistakes]
    assert badness == sorted(badness, reverse=True)
    wrong = measured.metrics.confusion.sum() - measured.metrics.confusion.diagonal().sum()
    assert len(badness) == (min(int(wrong), 16) if task == "classification" else 4)


def test_a_checkpoint_of_other_classes_task_or_size_is_refused(experiment: Callable[..., Params]) -> None:
    params = experiment("classification")
    path = CHECKPOINT / "training.json"
    trained = json.loads(path.read_text())
    for key, value, message in (
        ("task", "multilabel", "trained for task multilabel, but toy has classification"),
        ("size", [64, 64], "trained for size 64x64, but toy has 12x16"),
        (
            "class_names",
            list("abcdef"),
            r"trained for class_names 6 \(a, b, .*\), but toy has 6 \(zero, pipe",
        ),
    ):
        path.write_text(json.dumps({**trained, key: value}))
        with pytest.raises(UserError, match=message):
            evaluate(params, CHECKPOINT, REPORTS)
    assert not (REPORTS / "metrics.json").exists()


def test_flip_average_makes_mirror_images_equal() -> None:
    model = torch.nn.Conv2d(3, 4, 3, padding=1)
    forward = flip_average(model)
    images = torch.randn(2, 3, 5, 8)
    with torch.no_grad():
        assert torch.allclose(forward(images.flip(-1)), forward(images).flip(-1), atol=1e-6)
        pooled = flip_average(lambda batch: model(batch).mean((2, 3)))
        assert torch.allclose(pooled(images.flip(-1)), pooled(images), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_two_processes_measure_the_same(experiment: Callable[..., Params], task: str, tmp_path: Path) -> None:
    params = experiment(task)
    (tmp_path / "params.json").write_text(params.model_dump_json())
    (tmp_path / "run.py").write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "import torch.distributed\n"
        "from pipeline.evaluate import evaluation as module\n"
        "from pipeline.params import parse_params\n"
        "module.log = lambda *_: None\n"
        "params = parse_params(json.loads(Path('params.json').read_text()))\n"
        "module.evaluate(params, Path('checkpoints/best'), Path(sys.argv[1]))\n"
        "assert torch.distributed.get_world_size() == 2\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launch, "run.py", "two"], check=True, env=environment, timeout=300)
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "log", lambda *_: None)
        evaluate(params, CHECKPOINT, Path("one"))
    alone = json.loads((tmp_path / "one" / "metrics.json").read_text())
    for split in ("val", "test"):
        for name, value in alone[split].items():
            assert two[split][name] == pytest.approx(value, abs=1e-6), name
    for name in ("confusion.csv", "per_class.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert math.isfinite(two["val"]["loss"])
