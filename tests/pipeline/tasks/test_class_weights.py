"""Weights of classes: by hand, and in the losses of images and pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipeline.data.shards.targets import IGNORE
from pipeline.tasks.losses import ClassWeights, cross_entropy, focal


def test_weights_by_hand() -> None:
    # Frequencies 0.8 and 0.2; to the power -0.5: 1.118 and 2.236; their mean over the targets is 1.342.
    weights = ClassWeights([8, 2, 0], 0.5).values
    assert weights.tolist() == pytest.approx([1.118034 / 1.3416408, 2.236068 / 1.3416408, 0])


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("histogram", [[1, 10**9], [5, 5, 5], [0, 7], [3]])
def test_their_mean_over_the_targets_is_1(histogram: list[int], power: float) -> None:
    weights = ClassWeights(histogram, power).values.double()
    counts = torch.tensor(histogram).double()
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)
    if power == 1:
        shares = (weights * counts)[counts > 0]
        torch.testing.assert_close(shares, shares[:1].expand_as(shares))


def test_images_are_weighted_by_their_class() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    weights = ClassWeights([3, 2, 1], 1.0)
    expected = F.cross_entropy(logits, target, weights.values, reduction="sum")
    torch.testing.assert_close(cross_entropy(logits, target, weights=weights), expected)
    shares = F.one_hot(target, 3).float()
    torch.testing.assert_close(cross_entropy(logits, shares, weights=weights), expected)
    torch.testing.assert_close(
        cross_entropy(logits, shares), F.cross_entropy(logits, target, reduction="sum")
    )


def test_pixels_are_weighted_and_ignored_ones_add_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 3, 3)  # the fourth output is void's
    target = torch.randint(0, 3, (2, 3, 3))
    target[0, 0, 0] = IGNORE
    weights = ClassWeights([5, 3, 1], 0.7)
    table = torch.cat([weights.values, torch.zeros(1)])
    expected = F.cross_entropy(logits, target, table, reduction="sum", ignore_index=IGNORE)
    torch.testing.assert_close(focal(logits, target, 0.0, weights), expected)
    assert focal(logits, torch.full_like(target, IGNORE), 2.0, weights) == 0


def test_equal_weights_change_nothing() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    weights = ClassWeights([7, 2, 90], 0.0)
    torch.testing.assert_close(
        cross_entropy(logits, target, 0.1, weights), cross_entropy(logits, target, 0.1)
    )


def test_it_tells_the_extremes_and_what_is_absent() -> None:
    assert (
        ClassWeights([8, 2, 0], 1.0).describe(["a", "b", "c"])
        == "0.625 (a) to 2.5 (b); none for c, which train lacks"
    )
