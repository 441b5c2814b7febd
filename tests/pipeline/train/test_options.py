"""Options of a training, off by default: they do what they say, resume exactly, and are refused where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.params import MixParams, Params
from pipeline.tasks.mixing import build_mixing
from pipeline.tracking.base import NullTracking
from pipeline.train.trainer import Trainer
from pipeline.train.training import Training, prepare_training
from tests.pipeline.interrupted import CutOff, Interrupted


def prepared(params: Params, work: str) -> Training:
    folder = shards_folder(params.data, params.size)
    return prepare_training(params, read_manifest(folder), folder, Path(work))


def run(params: Params, work: str) -> str:
    training = prepared(params, work)
    Trainer(training, NullTracking()).run()
    return training.state.digest()


@pytest.mark.parametrize(
    "option",
    [
        {"mix": {"mixup": 0.4}},
        {"mix": {"mixup": 0.2, "cutmix": 1.0}, "accumulate": 2},
        {"class_weight_power": 0.5},
        {"phases": [{"optimizer": "sgd", "lr": 0.1, "epochs": 2, "backbone_lr": 0.1}], "decay_all": False},
        {"sampling": "balanced", "augment": [{"HorizontalFlip": {"p": 0.5}}]},
    ],
    ids=str,
)
def test_a_training_with_it_resumes_to_the_same_weights(
    toy: Callable[..., Params], option: dict[str, Any]
) -> None:
    params = toy(**option)
    machine = params.machine.model_copy(update={"checkpoint_seconds": 0.0})
    params = params.model_copy(update={"machine": machine})
    whole = run(params, "whole")
    cut = CutOff("before_step", lambda state: state.progress.step == 3)
    trainer = Trainer(prepared(params, "cut"), NullTracking(), [cut])
    with pytest.raises(Interrupted):
        trainer.run()
    assert run(params, "cut") == whole
    assert whole != run(toy(), "without")


@pytest.mark.parametrize("option", [{"class_weight_power": 0.5}, {"dice": 1.0}], ids=str)
def test_segmentation_has_losses_of_its_own(toy: Callable[..., Params], option: dict[str, Any]) -> None:
    assert run(toy("segmentation", **option), "with") != run(toy("segmentation"), "without")


@pytest.mark.parametrize(
    ("task", "option", "message"),
    [
        (
            "segmentation",
            {"mix": {"cutmix": 1.0}},
            "train.mix: toy is segmentation; allowed for classification only",
        ),
        (
            "multilabel",
            {"mix": {"cutmix": 1.0}},
            "train.mix: toy is multilabel; allowed for classification only",
        ),
        (
            "multilabel",
            {"class_weight_power": 0.5},
            "train.class_weight_power: got 0.5, but toy is multilabel",
        ),
        (
            "classification",
            {"dice": 0.5},
            "train.dice: got 0.5, but toy is classification, which has no masks",
        ),
        ("multilabel", {"sampling": "balanced"}, "train.sampling: got balanced, but toy is multilabel"),
        ("segmentation", {"sampling": "balanced"}, "train.sampling: got balanced, but toy is segmentation"),
    ],
)
def test_a_task_that_cannot_says_so(
    toy: Callable[..., Params], task: str, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        prepared(toy(task, **option), "work")
    assert "\n" not in str(refused.value)
    assert not Path("work").exists()


@pytest.mark.parametrize("values", [{}, {"mixup": 0.0, "cutmix": 0.0}, {"mixup": -1.0}, {"mixups": 1.0}])
def test_a_mix_of_nothing_is_refused(toy: Callable[..., Params], values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"train.mix"):
        toy(mix=values)


@pytest.mark.parametrize("values", [{"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
def test_shares_are_those_of_the_pixels(values: dict[str, float]) -> None:
    """Images of one colour each, 0 or 1: the mean of a mixed one is the share of class 1."""
    target = torch.tensor([0, 1, 1, 0])
    images = target.float()[:, None, None, None].expand(4, 3, 16, 16).contiguous()
    torch.manual_seed(0)
    mixed, shares = build_mixing(MixParams(**values), 2)(images, target)
    torch.testing.assert_close(mixed.mean((1, 2, 3)), shares[:, 1])
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert not torch.equal(mixed, images)


def test_the_same_seed_mixes_alike_and_both_kinds_occur() -> None:
    mixing = build_mixing(MixParams(mixup=1.0, cutmix=1.0), 2)
    target = torch.tensor([0, 1])
    images = target.float()[:, None, None, None].expand(2, 3, 8, 8).contiguous()
    kinds = set()
    for seed in range(12):
        torch.manual_seed(seed)
        first = mixing(images, target)[0]
        torch.manual_seed(seed)
        assert torch.equal(mixing(images, target)[0], first)
        kinds.add(bool((first[0] == first[0, 0, 0, 0]).all()))  # mixup keeps an image of one colour
    assert kinds == {True, False}


CROP = {"augment": [{"HorizontalFlip": {}}, {"RandomCrop": {"height": 6, "width": 8}}]}


def test_masks_can_be_learned_from_crops_and_are_validated_whole(toy: Callable[..., Params]) -> None:
    training = prepared(toy("segmentation", **CROP), "work")
    batch = next(training.loader.epoch(0))
    assert batch.image.shape[1:] == (6, 8, 3)
    assert batch.target.shape[1:] == (6, 8)
    assert training.validation.batch_size == 16 * 6 * 8 // (8 * 12)
    assert run(toy("segmentation", **CROP), "cropped") != run(toy("segmentation"), "whole")


@pytest.mark.parametrize(
    ("task", "augment", "message"),
    [
        (
            "classification",
            [{"Resize": {"height": 16, "width": 24}}],
            r"gives uint8 \[16, 24, 3\]; allowed: uint8 \[8, 12, 3\], as in the shards, or smaller \(",
        ),
        (
            "segmentation",
            [{"Pad": {"padding": 1}}],
            r"gives uint8 \[10, 14, 3\]; allowed: .* or smaller, masks alike",
        ),
        ("segmentation", [{"RandomCrop": {"height": 9, "width": 8}}], "RandomCrop of \\[9, 8\\] from"),
        ("segmentation", [{"RandomCrop": {"height": 1, "width": 8}}], "crops of 1x8: "),
    ],
)
def test_crops_that_cannot_be_are_named(
    toy: Callable[..., Params], task: str, augment: list[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        prepared(toy(task, augment=augment), "work")
    assert "\n" not in str(refused.value)
