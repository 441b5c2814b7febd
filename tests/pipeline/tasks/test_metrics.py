"""Metrics against torchmetrics, and against toys that are small enough to count by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.functional import classification as oracle

from pipeline.tasks.classification_metrics import ClassificationMetrics
from pipeline.tasks.metrics import Mean, Metrics
from pipeline.tasks.segmentation_metrics import SegmentationMetrics


def logits_for(predictions: list[int], num_classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predictions), num_classes).float()


def masks_for(rows: list[list[int]], num_classes: int) -> Tensor:
    """Logits (1, classes, H, W) whose arg max is ``rows``."""
    return torch.nn.functional.one_hot(torch.tensor(rows), num_classes).float().permute(2, 0, 1).unsqueeze(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_classification_agrees_with_torchmetrics(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 10, (300,), generator=generator)
    logits = (torch.randn(300, 10, generator=generator) + 2 * logits_for(target.tolist(), 10)).to(dtype)
    metrics = ClassificationMetrics(10)
    for start in range(0, 300, 64):
        metrics.update(logits[start : start + 64], target[start : start + 64])
    probabilities = logits.float().softmax(1)
    computed = metrics.compute()
    accuracy = oracle.multiclass_accuracy
    assert computed["top1"] == pytest.approx(float(accuracy(probabilities, target, 10, average="micro")))
    assert computed["mean_class_recall"] == pytest.approx(float(accuracy(probabilities, target, 10)))
    if dtype == torch.float32:  # bfloat16 logits are often equal, and torchmetrics leaves ties to chance
        top5 = accuracy(probabilities, target, 10, top_k=5, average="micro")
        assert computed["top5"] == pytest.approx(float(top5))
    error = oracle.multiclass_calibration_error(probabilities, target, 10, n_bins=15)
    assert computed["ece"] == pytest.approx(float(error), abs=1e-6)
    assert torch.equal(metrics.confusion, oracle.multiclass_confusion_matrix(probabilities, target, 10))
    precision = oracle.multiclass_precision(probabilities, target, 10, average=None)
    assert [figures.precision for figures in metrics.per_class()] == pytest.approx(precision.tolist())


def test_segmentation_agrees_with_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 5, (4, 8, 12), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    logits = torch.randn(4, 5, 8, 12, generator=generator)
    metrics = SegmentationMetrics(5)
    metrics.update(logits[:3], target[:3])
    metrics.update(logits[3:], target[3:].to(torch.uint8))  # as masks lie in the shards
    iou = oracle.multiclass_jaccard_index(logits, target, 5, ignore_index=255, average=None)
    assert [figures.iou for figures in metrics.per_class()] == pytest.approx(iou.tolist())
    accuracy = oracle.multiclass_accuracy(logits, target, 5, ignore_index=255, average="micro")
    assert metrics.compute()["pixel_accuracy"] == pytest.approx(float(accuracy))


def test_classification_by_hand() -> None:
    metrics = ClassificationMetrics(3)
    metrics.update(logits_for([0, 0, 1, 1], 3), torch.tensor([0, 1, 1, 1]))
    computed = metrics.compute()
    assert set(computed) == {"top1", "mean_class_recall", "ece"}  # of three classes top-5 says nothing
    assert computed["top1"] == 3 / 4
    assert computed["mean_class_recall"] == pytest.approx((1 + 2 / 3) / 2)  # class 2 has no sample
    confidence = math.e / (math.e + 2)  # softmax of (1, 0, 0): all in one bin, of which 3 in 4 are right
    assert computed["ece"] == pytest.approx(3 / 4 - confidence, abs=1e-6)
    assert metrics.per_class()[0][:4] == (1, 2, 1.0, 0.5)
    assert math.isnan(metrics.per_class()[2].recall)


def test_miou_by_hand_with_ignored_and_absent_classes() -> None:
    metrics = SegmentationMetrics(4)
    #   truth        prediction
    #   0 0 1        0 1 1
    #   1 x 0        1 2 2       x = ignored: its prediction, class 2, costs nothing
    metrics.update(masks_for([[0, 1, 1], [1, 2, 2]], 4), torch.tensor([[[0, 0, 1], [1, 255, 0]]]))
    assert [figures.iou for figures in metrics.per_class()[:3]] == pytest.approx([1 / 3, 2 / 3, 0])
    assert math.isnan(metrics.per_class()[3].iou)  # neither in the truth nor predicted: not in the mean
    assert metrics.compute()["miou"] == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert metrics.compute()["pixel_accuracy"] == pytest.approx(3 / 5)


def test_an_image_that_is_all_ignored_changes_nothing() -> None:
    metrics = SegmentationMetrics(2)
    metrics.update(masks_for([[0, 1]], 2), torch.tensor([[[255, 255]]]))
    assert math.isnan(metrics.compute()["miou"])
    metrics.update(masks_for([[0, 1]], 2), torch.tensor([[[0, 1]]]))
    assert metrics.compute()["miou"] == 1


def test_the_void_output_never_wins() -> None:
    metrics = SegmentationMetrics(2)
    logits = masks_for([[2, 2]], 3)  # three outputs, the last one void
    metrics.update(logits, torch.tensor([[[0, 0]]]))
    assert metrics.compute()["pixel_accuracy"] == 1  # classes 0 and 1 tie: the first one


def test_one_class() -> None:
    classification, segmentation = ClassificationMetrics(1), SegmentationMetrics(1)
    classification.update(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
    segmentation.update(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
    assert classification.compute() == {"top1": 1.0, "mean_class_recall": 1.0, "ece": 0.0}
    assert segmentation.compute()["miou"] == 1


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_network_that_says_the_same_of_every_class_is_no_good(value: float) -> None:
    metrics = ClassificationMetrics(10)
    metrics.update(torch.full((10, 10), value), torch.arange(10))
    computed = metrics.compute()
    assert computed["top1"] == pytest.approx(0.1)
    assert computed["top5"] == (0.5 if value == 0 else 0)


@pytest.mark.parametrize("metrics", [ClassificationMetrics(7), SegmentationMetrics(7)])
def test_nothing_counted_is_not_a_number(metrics: Metrics) -> None:
    assert all(math.isnan(value) for value in metrics.compute().values())
    assert tuple(metrics.compute()) == metrics.names


@pytest.mark.parametrize("label", [-1, 3, 254])
def test_a_target_that_is_no_class_is_an_error_not_another_cell(label: int) -> None:
    metrics = SegmentationMetrics(3)
    metrics.update(torch.zeros(1, 3, 1, 2), torch.tensor([[[0, label]]]))
    with pytest.raises(ValueError, match="1 targets are not classes 0 to 2"):
        metrics.compute()


@pytest.mark.parametrize("make", [lambda: ClassificationMetrics(6), lambda: SegmentationMetrics(6)])
def test_two_ranks_give_exactly_the_figures_of_one(make: Callable[[], Metrics]) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (4, 4) if isinstance(make(), SegmentationMetrics) else ()
    logits = torch.randn(40, 6, *shape, generator=generator)
    target = torch.randint(0, 6, (40, *shape), generator=generator)
    whole, first, second = make(), make(), make()
    whole.update(logits, target)
    for part, samples in ((first, slice(0, None, 2)), (second, slice(1, None, 2))):
        part.update(logits[samples], target[samples])
    other = second._counts
    first.reduce(lambda counts: counts + other)
    assert torch.equal(first._counts, whole._counts)
    assert first.compute() == whole.compute()


def test_mean_weighs_batches_by_their_size() -> None:
    mean = Mean()
    assert math.isnan(mean.compute())
    mean.update(torch.tensor(1.0), 3)
    mean.update(torch.tensor(5.0, requires_grad=True), torch.tensor(1))
    assert mean.compute() == 2
