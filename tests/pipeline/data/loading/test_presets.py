"""TrivialAugment and RandAugment: repeatable, spread over operations, masks with images, refused in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.data.loading.augmentation import Augment, build_augment
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.presets import OPERATIONS, expand
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.targets import IGNORE
from tests.pipeline.toy import SIZE, write_shards

HEIGHT, WIDTH = SIZE
PRESETS: list[dict[str, Any]] = [
    {"TrivialAugment": {}},
    {"RandAugment": {"n": 2, "m": 9}},
    {"RandAugment": None},
]


def build(manifest: Manifest, *recipe: dict[str, Any]) -> Augment:
    augment = build_augment(recipe, manifest, 7)
    assert augment is not None
    return augment


def images(count: int) -> torch.Tensor:
    one = torch.randint(0, 256, (1, HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(0))
    return one.to(torch.uint8).expand(count, -1, -1, -1)


@pytest.mark.parametrize("preset", PRESETS, ids=str)
def test_it_is_a_function_of_epoch_and_sample_and_changes_most_images(
    tmp_path: Path, preset: dict[str, Any]
) -> None:
    manifest = write_shards(tmp_path / "shards")
    batch = Batch(images(60), torch.zeros(60, dtype=torch.int64))
    first = build(manifest, preset)(batch, 0, torch.arange(60)).image
    again = build(
        manifest,
        preset,
    )(Batch(batch.image[10:20], batch.target[10:20]), 0, torch.arange(10, 20)).image
    assert torch.equal(first[10:20], again)
    assert not torch.equal(build(manifest, preset)(batch, 1, torch.arange(60)).image, first)
    changed = (first != batch.image).flatten(1).any(1).sum()
    assert 40 < int(changed) <= 60
    assert len({image.numpy().tobytes() for image in first}) > 35


def test_no_strength_changes_nothing_geometric(tmp_path: Path) -> None:
    """At m = 0 only equalising and stretching the contrast are left."""
    manifest = write_shards(tmp_path / "shards")
    batch = Batch(images(60), torch.zeros(60, dtype=torch.int64))
    changed = build(manifest, {"RandAugment": {"n": 1, "m": 0}})(batch, 0, torch.arange(60)).image
    kinds = {image.numpy().tobytes() for image in changed}
    assert batch.image[0].numpy().tobytes() in kinds
    assert len(kinds) <= 4  # as it was; equalised; contrast stretched; sharpened by nothing rounds alike


def test_the_mask_moves_with_its_image(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards", "segmentation", counts={"train": 4, "val": 1})
    halves = torch.ones((60, HEIGHT, WIDTH), dtype=torch.uint8)
    halves[:, :, 6:] = 2
    _, mask = build(manifest, {"TrivialAugment": {}})(Batch(images(60), halves), 0, torch.arange(60))
    moved = (mask != halves).flatten(1).any(1)
    assert set(mask.flatten().tolist()) <= {1, 2, IGNORE}
    assert 10 < int(moved.sum()) < 45  # 5 of the 14 operations move pixels


def test_grey_images_are_taken(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards").model_copy(
        update={"channels": 1, "mean": [0.5], "std": [0.2]}
    )
    grey = Batch(images(20)[..., :1].contiguous(), torch.zeros(20, dtype=torch.int64))
    assert build(manifest, {"TrivialAugment": {}})(grey, 0, torch.arange(20)).image.shape == (
        20,
        HEIGHT,
        WIDTH,
        1,
    )


def test_both_have_as_many_operations() -> None:
    assert len(expand("TrivialAugment", {})[1]["transforms"]) == OPERATIONS
    assert len(expand("RandAugment", {"n": 3})[1]["transforms"]) == OPERATIONS
    assert expand("HorizontalFlip", {"p": 0.5}) == ("HorizontalFlip", {"p": 0.5})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"TrivialAugment": {"p": 1}}, "TrivialAugment: got 'p', allowed: none"),
        ({"RandAugment": {"n": 0}}, "RandAugment: n: got 0, allowed: a whole number from 1 to 14"),
        ({"RandAugment": {"m": 31}}, "RandAugment: m: got 31, allowed: a whole number from 0 to 30"),
        ({"RandAugment": {"m": True}}, "RandAugment: m: got True"),
        ({"RandAugment": {"magnitude": 9}}, "RandAugment: got 'magnitude'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(tmp_path: Path, recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"train\.augment: ") as refused:
        build_augment([recipe], write_shards(tmp_path / "shards"), 0)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
