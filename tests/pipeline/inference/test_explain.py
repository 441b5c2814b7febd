"""Figures 3 and 4: a network that looks at one place is seen to look there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.cli.parser import main
from pipeline.inference import explanation
from pipeline.inference.explanation import draw_maps, occlusion
from pipeline.models.features import feature_maps
from pipeline.models.wavemix_lite import WaveMixLiteFamily
from pipeline.params import Params, parse_params
from pipeline.plotting.masks import encode_png
from pipeline.train.experiment import train_once
from tests.pipeline.experiment import toy_network


def test_occlusion_finds_the_only_pixel_that_counts() -> None:
    image = torch.zeros(8, 8, 1, dtype=torch.uint8)
    image[5, 2] = 200

    def probability(images: Tensor) -> Tensor:
        return images[:, 5, 2, 0] / 200

    places = occlusion(probability, image, window=2, fill=torch.zeros(1, dtype=torch.uint8), batch=5)
    assert places.shape == (7, 7)
    # the square's top left corner is in rows 4 to 5 and columns 1 to 2 when it covers (5, 2)
    expected = np.ones((7, 7))
    expected[4:6, 1:3] = 0
    assert np.array_equal(places, expected)


def test_occlusion_of_an_image_smaller_than_the_window() -> None:
    image = torch.ones(2, 3, 1, dtype=torch.uint8)
    places = occlusion(
        lambda images: images.float().mean((1, 2, 3)), image, 10, torch.zeros(1, dtype=torch.uint8)
    )
    assert places.tolist() == [[0.0]]


def test_maps_are_the_blocks_own_outputs() -> None:
    network = toy_network("classification")
    image = torch.randn(1, 3, 12, 16)
    inspected = WaveMixLiteFamily(dim=8, depth=1).inspected(network)
    (only,) = feature_maps(network, inspected, image).values()
    with torch.no_grad():
        expected = network.blocks(network.stem(image))[0].mean(0).numpy()
    assert np.allclose(only[0].mean(0), expected, atol=1e-6)
    assert not network.blocks[0]._forward_hooks


def test_another_network_of_other_depth_stands_below() -> None:
    blank = np.zeros((3, 4), np.float32)
    small, large = ({f"block {i + 1}": blank for i in range(blocks)} for blocks in (2, 7))
    figure = draw_maps(np.zeros((6, 8, 3), np.uint8), {"small": small, "large": large})
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[:6] == ["small", "after block 1", "after block 2", "", "", ""]
    assert titles[6:14] == ["large", *(f"after block {number}" for number in range(1, 8))]


def test_command_draws_and_goes_on_after_a_bad_file(experiment: Callable[..., Params]) -> None:
    experiment("classification")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    Path("a.png").write_bytes(encode_png(pixels))
    Path("bad.png").write_text("x")
    with pytest.raises(SystemExit, match="1 of 2 files are no images"):
        main(["explain", "bad.png", "a.png", "--out", "drawn", "--device", "cpu"])
    assert {path.name for path in Path("drawn").iterdir()} == {"a_blocks.png", "a_occlusion.png"}


def test_a_resnet_stands_beside_wavemix_lite_from_its_run(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figure 3, both networks trained here."""
    train_once(toy(), Path("checkpoints/best"), Path("curves.csv"))
    values = toy().model_dump(mode="json", exclude_none=True)
    resnet = parse_params(values | {"model": {"family": "resnet", "depth": 18}})
    other = train_once(resnet, Path("other"), Path("other.csv"))
    Path("params.yaml").write_text(toy().model_dump_json())
    Path("a.png").write_bytes(encode_png(np.zeros((20, 20, 3), np.uint8)))
    drawn: list[str] = []

    def noted(image: Any, networks: Mapping[str, Mapping[str, Any]]) -> Any:
        drawn.extend(f"{name}: {len(maps)}" for name, maps in networks.items())
        return draw_maps(image, networks)

    monkeypatch.setattr(explanation, "draw_maps", noted)
    main(["explain", "a.png", "--beside", str(other.run_id), "--out", "drawn", "--device", "cpu"])
    assert drawn == ["WaveMix-Lite 8/2 dropout 0.1, toy: 2", "ResNet-18, toy: 4"]
    assert Path("drawn/a_blocks.png").stat().st_size > 10_000
