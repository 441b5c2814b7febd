"""Images with any number of classes: metrics against torchmetrics, thresholds by hand, and a training to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

from pipeline.checkpoints.trained import load_trained
from pipeline.cli.parser import main
from pipeline.data.shards.layout import shards_folder
from pipeline.evaluate.evaluation import evaluate
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.tasks.losses import binary_cross_entropy
from pipeline.tasks.multilabel_metrics import STEPS, MultilabelMetrics
from pipeline.train.experiment import train
from tests.pipeline.toy import SIZE, write_shards


def counted(logits: torch.Tensor, target: torch.Tensor) -> MultilabelMetrics:
    metrics = MultilabelMetrics(target.shape[1])
    for start in range(0, len(logits), 7):
        metrics.update(logits[start : start + 7], target[start : start + 7])
    return metrics


def test_average_precision_is_torchmetrics_own() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=generator) * 2
    target = (torch.rand(200, 5, generator=generator) < torch.sigmoid(logits)).long()
    metrics = counted(logits, target)
    binned = multilabel_average_precision(logits, target, 5, average=None, thresholds=STEPS + 1)
    exact = multilabel_average_precision(logits, target, 5, average="macro")
    rows = metrics.per_class()
    assert [row.average_precision for row in rows] == pytest.approx(binned.tolist(), abs=1e-6)
    values = metrics.compute()
    assert values["map"] == pytest.approx(float(exact), abs=2e-3)
    assert values["mean_f1"] == pytest.approx(float(multilabel_f1_score(logits, target, 5)), abs=1e-6)
    exact_match = ((logits > 0).long() == target).all(1).double().mean()
    assert values["exact_match"] == pytest.approx(float(exact_match))


def test_a_class_that_never_occurs_is_left_out_of_the_means() -> None:
    logits = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    metrics = counted(logits, torch.tensor([[1, 0], [0, 0]]))
    assert metrics.compute() == {"map": 1.0, "mean_f1": 1.0, "exact_match": 0.5}
    assert metrics.totals.tolist() == [1, 0]


def test_the_threshold_is_where_f1_is_best() -> None:
    probability = torch.tensor([0.9, 0.8, 0.3, 0.2, 0.1])
    metrics = counted(torch.logit(probability)[:, None], torch.tensor([1, 1, 1, 0, 0])[:, None])
    (threshold,) = metrics.decision()["thresholds"]
    assert 0.2 < threshold <= 0.3001


def test_two_ranks_count_what_one_does() -> None:
    logits, target = torch.randn(30, 4), torch.randint(0, 2, (30, 4))
    whole, first, second = (
        counted(logits, target),
        counted(logits[::2], target[::2]),
        counted(logits[1::2], target[1::2]),
    )
    first.reduce(lambda counts: counts + second._counts)
    assert first.compute() == whole.compute()


def test_the_loss_is_torchs_mean_over_classes_summed_over_images() -> None:
    logits, target = torch.randn(6, 3), torch.randint(0, 2, (6, 3))
    mean = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.float())
    assert binary_cross_entropy(logits, target).item() == pytest.approx(6 * mean.item(), rel=1e-5)


def test_a_network_learns_is_measured_and_predicts(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    """The classes are the channels that are bright: none, one, two or all of them."""
    params = toy(
        "multilabel",
        phases=[{"optimizer": "adamw", "lr": 0.01, "epochs": 12}],
        augment=[{"HorizontalFlip": {}}],
    )
    trained = train(params, Path("checkpoints/best"), Path("reports/curves.csv"))
    assert trained.metric == "val/map"
    assert trained.value > 0.9
    assert len(trained.decision["thresholds"]) == 3
    assert load_trained(Path("checkpoints/best")).trained == trained
    _, result = evaluate(params, Path("checkpoints/best"), Path("reports"))
    assert result.values["map"] > 0.9
    written = json.loads(Path("reports/metrics.json").read_text())
    assert set(written["val"]) == {"map", "mean_f1", "exact_match", "loss"}
    assert (
        Path("reports/per_class.csv")
        .read_text()
        .startswith("class,actual,predicted,recall,precision,average_precision")
    )
    assert Path("reports/evaluate/predictions.png").exists()
    pixels = np.random.default_rng(5).integers(0, 128, (*SIZE, 3), dtype=np.uint8)
    pixels[..., 1:] += 100
    Path("image.png").write_bytes(encode_png(pixels))
    capsys.readouterr()
    main(["predict", "image.png", "--json", "--csv", "table.csv", "--device", "cpu"])
    record = json.loads(capsys.readouterr().out)
    assert set(record["labels"]) == {"green", "blue"}
    assert {entry["class"] for entry in record["classes"]} == {"red", "green", "blue"}
    header, row = Path("table.csv").read_text().splitlines()
    assert header == "image,error,label,red,green,blue"
    assert row.startswith("image.png,,green|blue,")


def test_shards_are_read_by_stock_webdataset(tmp_path: Path) -> None:
    import webdataset

    write_shards(tmp_path / "shards", "multilabel")
    dataset = webdataset.WebDataset(str(tmp_path / "shards/train-000000.tar"), shardshuffle=False)
    assert all(set(bytes(sample["classes"])) <= set(b"012 ") for sample in dataset)
    assert shards_folder("toy", SIZE).name == "8x12"
