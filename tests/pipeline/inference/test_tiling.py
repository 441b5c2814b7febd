"""Masks tile by tile: those of the whole image, whatever its size, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.cli.parser import main
from pipeline.inference.predictor import Predictor
from pipeline.inference.tiling import starts, tiled_mask
from pipeline.params import Params

TILE = (8, 12)


def by_colour(images: Tensor) -> Tensor:
    """Logits of a network that looks at single pixels: the class is the channel that is brightest; one output more."""
    logits = images.permute(0, 3, 1, 2).float()
    return torch.cat([logits, torch.full_like(logits[:, :1], 1e4)], 1)


@pytest.mark.parametrize("size", [(8, 12), (9, 13), (3, 5), (40, 31), (8, 50), (50, 2), (17, 24)])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_pixel_is_decided_once_and_as_in_the_whole(size: tuple[int, int], batch: int) -> None:
    image = np.random.default_rng(0).permutation(np.arange(size[0] * size[1] * 3) % 256)
    image = image.reshape(*size, 3).astype(np.uint8)
    mask = tiled_mask(by_colour, image, TILE, 3, batch)
    np.testing.assert_array_equal(mask, image.argmax(2))


@pytest.mark.parametrize("length", [8, 9, 15, 16, 100, 1001])
def test_tiles_cover_all_and_overlap(length: int) -> None:
    begun = starts(length, 8)
    assert begun[0] == 0
    assert begun[-1] == length - 8
    assert all(2 <= before + 8 - after < 8 for before, after in pairwise(begun))


def test_the_middle_of_a_tile_counts_more_than_the_edge_of_another() -> None:
    """Each tile says of all its pixels what its first one shows; between two middles the nearer one decides."""

    def first_pixel(images: Tensor) -> Tensor:
        sure = images[:, 0, 0, 0].float()[:, None, None].expand(-1, *TILE)
        return torch.stack([255 - sure, sure], 1) / 50

    image = np.zeros((8, 21, 1), np.uint8)
    image[:, 9] = 255
    assert starts(21, 12) == [0, 9]
    mask = tiled_mask(first_pixel, image, TILE, 2, 2)
    assert mask[4].tolist() == [0] * 11 + [1] * 10 or mask[4].tolist() == [0] * 10 + [1] * 11


def test_logits_of_a_lower_resolution_are_enlarged() -> None:
    def half(images: Tensor) -> Tensor:
        return by_colour(images)[:, :, ::2, ::2]

    image = np.zeros((30, 30, 3), np.uint8)
    image[:, :15, 1], image[:, 15:, 2] = 200, 200
    mask = tiled_mask(half, image, TILE, 3, 3)
    assert set(np.unique(mask)) == {1, 2}
    assert (mask == image.argmax(2)).mean() > 0.9


def test_memory_grows_with_the_width_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    zeros = torch.zeros

    def noted(*shape: int) -> Tensor:
        sizes.append(int(np.prod(shape)))
        return zeros(*shape)

    monkeypatch.setattr(torch, "zeros", noted)
    tiled_mask(by_colour, np.zeros((400, 24, 3), np.uint8), TILE, 3, 4)
    assert max(sizes) == 3 * 8 * 24


def test_an_image_of_the_networks_size_gets_the_same_mask(experiment: Callable[..., Params]) -> None:
    experiment("segmentation")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("a.png")
    masks = []
    for tile in (False, True):
        predictor = Predictor.load(Path("checkpoints/best"), torch.device("cpu"), tile=tile)
        (prediction,) = predictor.predict([predictor.open(Path("a.png").read_bytes())])
        masks.append(prediction.mask)
    np.testing.assert_array_equal(masks[0], masks[1])


def test_the_command_takes_large_images_as_they_are(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("segmentation")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("a.jpg")
    main(["predict", "a.jpg", "--tile", "--flip", "--json", "--device", "cpu"])
    record = json.loads(capsys.readouterr().out)
    assert Image.open(record["mask"]).size == (50, 70)
    assert Image.open(record["overlay"]).size == (50, 70)
    assert sum(one["share"] for one in record["shares"]) == pytest.approx(1, abs=1e-3)


def test_a_network_without_masks_is_refused(experiment: Callable[..., Params]) -> None:
    experiment("classification")
    Image.new("RGB", (20, 20)).save("a.png")
    with pytest.raises(SystemExit, match="--tile: the network is for classification; allowed for masks only"):
        main(["predict", "a.png", "--tile", "--device", "cpu"])
