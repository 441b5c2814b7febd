"""Augmentation: a function of (seed, epoch, sample) alone, the same for image and mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.data.loading.augment_device import uniform
from pipeline.data.loading.augmentation import Augment, build_augment
from pipeline.data.loading.batch import Batch, Samples
from pipeline.data.loading.memory import MemoryLoader
from pipeline.data.loading.order import SampleOrder
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.targets import IGNORE
from tests.pipeline.toy import write_shards

HEIGHT, WIDTH = 8, 12
ON_DEVICE = [{"HorizontalFlip": {}}, {"Pad": {"padding": 2}}, {"RandomCrop": {"height": 8, "width": 12}}]
ON_HOST = [
    {"OneOf": {"transforms": [{"VerticalFlip": {"p": 1}}, {"Transpose": {"p": 0}}], "p": 0.5}},
    {"RandomResizedCrop": {"size": [8, 12], "interpolation": 0}},
]


@pytest.fixture(params=["classification", "segmentation"])
def manifest(tmp_path: Path, request: pytest.FixtureRequest) -> Manifest:
    return write_shards(tmp_path / "shards", request.param, counts={"train": 4, "val": 1})


def build(recipe: list[dict[str, Any]], manifest: Manifest, seed: int = 7) -> Augment:
    augment = build_augment(recipe, manifest, seed)
    assert augment is not None
    return augment


def numbered(manifest: Manifest, count: int = 50) -> Samples:
    """Every pixel has a value of its own; where there are masks, they are the red channel."""
    image = torch.arange(HEIGHT * WIDTH * 3, dtype=torch.int64).view(HEIGHT, WIDTH, 3) % 251
    images = ((image + torch.arange(count).view(-1, 1, 1, 1)) % 251).to(torch.uint8)
    masks = manifest.task == "segmentation"
    return Samples(images, images[..., 0].clone() if masks else torch.arange(count))


def epoch(samples: Samples, augment: Augment, number: int, rank: int = 0, ranks: int = 1, **plan: int) -> Any:
    """Image by the sample's number, as trained on in an epoch."""
    chosen = SampleOrder((len(samples),), plan.get("batch_size", 16), 0, rank, ranks)
    loader = MemoryLoader(chosen, samples, augment=augment, threads=plan.get("threads", 0))
    first = plan.get("first", 0)
    indices = torch.cat(list(chosen.batches(number, first))).tolist()
    batches = list(loader.epoch(number, first))
    return dict(
        zip(
            indices,
            zip(
                [image.numpy().tobytes() for batch in batches for image in batch.image],
                [target.numpy().tobytes() for batch in batches for target in batch.target],
                strict=True,
            ),
            strict=True,
        )
    )


@pytest.mark.parametrize("recipe", [ON_DEVICE, ON_HOST])
def test_ranks_batches_threads_and_the_first_batch_change_nothing_and_epochs_do(
    manifest: Manifest, recipe: list[dict[str, Any]]
) -> None:
    samples = numbered(manifest)
    augment = build(recipe, manifest)
    assert augment.on_host == (recipe is ON_HOST)
    whole = epoch(samples, augment, 3)
    assert whole == epoch(samples, build(recipe, manifest), 3)
    assert whole == epoch(samples, augment, 3, batch_size=7)
    assert whole == epoch(samples, augment, 3, threads=3)
    assert whole == epoch(samples, augment, 3, 0, 2) | epoch(samples, augment, 3, 1, 2)
    assert whole.items() >= epoch(samples, augment, 3, first=2).items()
    other = epoch(samples, augment, 4)
    assert sum(other[i] != whole[i] for i in whole) > 40
    other = epoch(samples, build(recipe, manifest, seed=8), 3)
    assert sum(other[i] != whole[i] for i in whole) > 40
    same = Samples(
        samples.images[:1].expand(50, -1, -1, -1),
        samples.targets[:1].repeat(50, *[1] * (samples.targets.ndim - 1)),
    )
    assert len({image for image, _ in epoch(same, augment, 3).values()}) > 15


@pytest.mark.parametrize(
    "recipe",
    [
        ON_DEVICE,
        [{"Rotate": {"p": 1}}],
        [{"Affine": {"p": 1, "rotate": [20, 40], "interpolation": 0}}],
        ON_HOST,
    ],
)
def test_the_mask_moves_with_its_image_and_new_pixels_are_ignored(
    tmp_path: Path, recipe: list[dict[str, Any]]
) -> None:
    manifest = write_shards(tmp_path / "shards", "segmentation", counts={"train": 4, "val": 1})
    halves = torch.ones((30, HEIGHT, WIDTH), dtype=torch.uint8)
    halves[:, :, 6:] = 2
    image = halves[..., None].expand(-1, -1, -1, 3) * 100
    changed, mask = build(recipe, manifest)(Batch(image, halves), 0, torch.arange(30))
    assert set(mask.flatten().tolist()) <= {1, 2, IGNORE}
    assert not torch.equal(mask, halves)
    # Black, which the image had nowhere, is what came in from outside.
    new = mask == IGNORE
    assert new.any() == (recipe is not ON_HOST)
    if recipe[0].get("Rotate") is None:
        assert torch.equal(changed[..., 0] == 0, new)
        assert torch.equal(changed[..., 0][~new], mask[~new] * 100)


def test_what_runs_on_the_device_is_what_albumentations_does(tmp_path: Path) -> None:
    """By hand: flips at p=1 mirror; a crop of the padded image is one of its 25, and over many all of them."""
    manifest = write_shards(tmp_path / "shards", "segmentation", counts={"train": 4, "val": 1})
    images, masks = numbered(manifest, 2000).take(torch.arange(2000))
    for name, axis in (("HorizontalFlip", 2), ("VerticalFlip", 1)):
        flipped = build([{name: {"p": 1}}], manifest)(Batch(images, masks), 0, torch.arange(2000))
        assert torch.equal(flipped.image, images.flip(axis))
        assert torch.equal(flipped.target, masks.flip(axis))
        half = build([{name: {}}], manifest)(Batch(images, masks), 0, torch.arange(2000)).image
        assert (half != images).flatten(1).any(1).float().mean() == pytest.approx(0.5, abs=0.05)
    crop = build([{"Pad": {"padding": 2}}, {"RandomCrop": {"height": 8, "width": 12}}], manifest)
    same = Batch(images[:1].expand(2000, -1, -1, -1), masks[:1].expand(2000, -1, -1))
    cut = crop(same, 0, torch.arange(2000)).image.numpy()
    padded = np.pad(images[0].numpy(), ((2, 2), (2, 2), (0, 0)))
    possible = {padded[y : y + 8, x : x + 12].tobytes() for y in range(5) for x in range(5)}
    assert {image.tobytes() for image in cut} == possible


def test_two_flips_do_not_come_together(tmp_path: Path) -> None:
    """Albumentations gives every transform the same seed, so that both flips would be made, or none."""
    manifest = write_shards(tmp_path / "shards", counts={"train": 4, "val": 1})
    images, targets = numbered(manifest, 1).take(torch.zeros(200, dtype=torch.int64))
    both: list[dict[str, Any]] = [{"HorizontalFlip": {}}, {"VerticalFlip": {}}]
    no_operation: list[dict[str, Any]] = [{"NoOp": {}}]
    for on_host in (no_operation[:0], no_operation):
        flipped = build(both + on_host, manifest)(Batch(images, targets), 0, torch.arange(200)).image
        assert len({image.numpy().tobytes() for image in flipped}) == 4


def test_uniform_numbers_are_uniform_and_independent() -> None:
    numbers = torch.arange(100_000)
    first, second = uniform((0, 0, 0, 0), numbers), uniform((0, 1, 0, 0), numbers)
    assert float(first.min()) >= 0
    assert float(first.max()) < 1
    counts = torch.histc(first, 10, 0, 1)
    assert ((counts - 10_000).abs() < 500).all()
    pairs = torch.corrcoef(torch.stack([first, second, first.roll(1)]))
    assert (pairs - torch.eye(3)).abs().max() < 0.02


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([{"HorisontalFlip": {}}], "got 'HorisontalFlip' .did you mean 'HorizontalFlip'"),
        ([{"HorizontalFlip": {"q": 1}}], "HorizontalFlip: got 'q'.*allowed: p"),
        ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip: p: Input should be less than or equal to 1"),
        ([{"RandomResizedCrop": {}}], "RandomResizedCrop: size: Field required"),
        (
            [{"Resize": {"height": 16, "width": 4}}],
            r"gives uint8 \[16, 4, 3\]; allowed: uint8 \[8, 12, 3\]",
        ),
        ([{"RandomCrop": {"height": 40, "width": 4}}], r"RandomCrop of \[40, 4\] from \[8, 12\]; Pad first"),
        ([{"Normalize": {}}], r"gives float32 .*the pipeline normalises by itself"),
        ([{"OneOf": {"transforms": [{"Rotat": {}}]}}], "got 'Rotat' .did you mean 'Rotate'"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_in_one_line(
    tmp_path: Path, recipe: list[dict[str, Any]], message: str
) -> None:
    manifest = write_shards(tmp_path / "shards", counts={"train": 4, "val": 1})
    with pytest.raises(UserError, match=f"^train.augment: .*{message}"):
        build_augment(recipe, manifest, 0)


def test_no_recipe_is_none(tmp_path: Path) -> None:
    assert build_augment((), write_shards(tmp_path / "shards", counts={"train": 4, "val": 1}), 0) is None
