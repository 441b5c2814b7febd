"""Losses as sums, against torch and torchvision and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from pipeline.models.inputs import normalise
from pipeline.tasks.losses import count_images, count_pixels, cross_entropy, dice, focal


def test_cross_entropy_is_torchs_and_class_255_counts() -> None:
    """ImageNet has a class 255; only pixels of masks are ignored by that number."""
    logits, target = torch.randn(4, 300), torch.tensor([255, 0, 299, 255])
    mean = cross_entropy(logits, target, label_smoothing=0.1) / count_images(target)
    torch.testing.assert_close(mean, F.cross_entropy(logits, target, label_smoothing=0.1))


def test_focal_by_hand() -> None:
    """Two pixels with p = 1/2 and p = 1/4, one ignored: (1/2)^2 ln 2 + (3/4)^2 ln 4."""
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)], [9.0, -9.0]]).T.reshape(1, 2, 1, 3)
    target = torch.tensor([[[0, 0, 255]]])
    expected = torch.tensor(0.25 * math.log(2) + 0.5625 * math.log(4))
    torch.testing.assert_close(focal(logits, target, gamma=2.0), expected)
    assert count_pixels(target) == 2


def test_focal_of_two_classes_is_torchvisions_binary_one() -> None:
    logit, target = torch.randn(2, 3, 5), torch.randint(0, 2, (2, 3, 5))
    both = torch.stack([torch.zeros_like(logit), logit], dim=1)
    theirs = sigmoid_focal_loss(logit, target.float(), alpha=-1, gamma=1.5, reduction="sum")
    torch.testing.assert_close(focal(both, target, gamma=1.5), theirs)


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, target = torch.randn(2, 5, 4, 4), torch.randint(0, 5, (2, 4, 4))
    target[0, 0] = 255
    mean = focal(logits, target, gamma=0.0) / count_pixels(target)
    torch.testing.assert_close(mean, F.cross_entropy(logits, target, ignore_index=255))


def test_dice_by_hand() -> None:
    """Three pixels that count, of class 0, 0 and 1, with 1/2, 3/4 and 1/4 for class 0; a fourth is ignored.

    Class 0: 2 (5/4) / (3/2 + 2) = 5/7; class 1: 2 (3/4) / (3/2 + 1) = 3/5; class 2 does not occur. Three pixels' worth.
    """
    first = torch.tensor([0.5, 0.75, 0.25, 1.0])
    probabilities = torch.stack([first, 1 - first, torch.zeros(4)]).clamp(min=1e-30)
    logits, target = probabilities.log().view(1, 3, 1, 4), torch.tensor([[[0, 0, 1, 255]]])
    expected = 3 * (1 - (5 / 7 + 3 / 5) / 2)
    assert float(dice(logits, target)) == pytest.approx(expected)


def test_dice_of_an_image_with_all_classes_is_that_of_segmentation_models() -> None:
    losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, target = torch.randn(1, 5, 6, 7), torch.arange(42).view(1, 6, 7) % 5
    target[0, 0] = 255
    theirs = losses.DiceLoss("multiclass", ignore_index=255)(logits, target)
    torch.testing.assert_close(dice(logits, target) / count_pixels(target), theirs)


def test_dice_of_a_batch_is_the_sum_of_its_images() -> None:
    logits, target = torch.randn(3, 5, 6, 7), torch.randint(0, 5, (3, 6, 7))
    target[1, :3] = 255
    apart = sum(dice(logits[i : i + 1], target[i : i + 1]) for i in range(3))
    torch.testing.assert_close(dice(logits, target), apart)


def test_dice_of_the_truth_is_0_and_of_its_opposite_1() -> None:
    target = torch.randint(0, 2, (2, 4, 4))
    right = 100.0 * F.one_hot(target, 2).permute(0, 3, 1, 2)
    assert float(dice(right, target)) == pytest.approx(0, abs=1e-5)
    assert float(dice(-right, target) / count_pixels(target)) == pytest.approx(1)


@pytest.mark.parametrize("loss", [focal, dice])
def test_an_image_all_ignored_adds_nothing_and_has_a_gradient_of_zero(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    target = torch.full((1, 2, 2), 255)
    total = loss(logits, target)
    total.backward()  # type: ignore[no-untyped-call]
    assert total == 0
    assert count_pixels(target) == 0
    assert logits.grad is not None
    assert torch.all(logits.grad == 0)


def test_normalise_is_mean_and_std_of_pixels_between_0_and_1() -> None:
    image = torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    expected = (image.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )
    out = normalise(image, mean, std)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)
