"""Every network of the paper, against the counts that its libraries and its authors give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.models import FAMILIES, build_network, parse_model
from pipeline.models.dry_run import meta_network
from pipeline.models.inputs import place
from tests.pipeline.models.networks import count, spec

IMAGENET64 = {"outputs": 1000, "size": (64, 64)}
MNIST = {"channels": 1, "size": (28, 28)}

ROWS: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"family": "resnet", "depth": 18}, {}, 11_181_642),
    ({"family": "resnet", "depth": 34}, {}, 21_289_802),
    ({"family": "resnet", "depth": 50}, {}, 23_528_522),
    ({"family": "resnet", "depth": 101}, {}, 42_520_650),
    ({"family": "resnet", "depth": 18}, IMAGENET64, 11_689_512),
    ({"family": "resnet", "depth": 34}, IMAGENET64, 21_797_672),
    ({"family": "resnet", "depth": 50}, IMAGENET64, 25_557_032),
    ({"family": "resnet", "depth": 101}, IMAGENET64, 44_549_160),
    ({"family": "resnet", "depth": 18}, MNIST, 11_175_370),
    ({"family": "resnet", "depth": 34}, MNIST, 21_283_530),
    ({"family": "resnet", "depth": 50}, MNIST, 23_522_250),
    ({"family": "resnet", "depth": 18, "stem": "cifar"}, {}, 11_173_962),
    ({"family": "resnet", "depth": 34, "stem": "cifar"}, {}, 21_282_122),
    ({"family": "resnet", "depth": 50, "stem": "cifar"}, {}, 23_520_842),
    ({"family": "resnet", "depth": 101, "stem": "cifar"}, {}, 42_512_970),
    ({"family": "resnet", "depth": 18, "stem": "cifar"}, IMAGENET64, 11_681_832),
    ({"family": "resnet", "depth": 34, "stem": "cifar"}, IMAGENET64, 21_789_992),
    ({"family": "resnet", "depth": 50, "stem": "cifar"}, IMAGENET64, 25_549_352),
    ({"family": "resnet", "depth": 101, "stem": "cifar"}, IMAGENET64, 44_541_480),
]
"""Keys, demands of the data, and the exact number of weights."""

SMALL: dict[str, dict[str, Any]] = {
    "wavemix-lite": {"dim": 8, "depth": 1},
    "wavemix": {"dim": 8, "depth": 1, "levels": 2},
    "resnet": {"depth": 18, "stem": "cifar"},
}
"""A small network of each family."""


def name_of(value: object) -> str:
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("keys", "demands", "expected"), ROWS, ids=name_of)
def test_a_row_of_the_paper_has_the_exact_number_of_weights(
    keys: dict[str, Any], demands: dict[str, Any], expected: int
) -> None:
    assert count(meta_network(parse_model(keys), spec(**demands))) == expected


def test_every_family_has_a_small_network_here() -> None:
    assert SMALL.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", SMALL)
def test_a_network_gives_logits_trains_and_keeps_them_in_its_inference_form(family: str) -> None:
    model = parse_model({"family": family, **SMALL[family]})
    kind = FAMILIES[family]
    demands = spec(spatial=not kind.per_image, outputs=3, channels=1)
    torch.manual_seed(0)
    network = place(build_network(model, demands), torch.device("cpu"))
    images = torch.randn(2, 1, 32, 32)
    logits = network(images)
    assert logits.shape == (2, 3) if kind.per_image else (2, 3, 32, 32)
    logits.square().mean().backward()
    silent = [name for name, weights in network.named_parameters() if weights.grad is None]
    assert not silent
    inference = model.for_inference(network)
    assert not inference.training
    assert network.training
    assert torch.allclose(inference(images), network.eval()(images), atol=1e-5)


@pytest.mark.parametrize("family", SMALL)
def test_the_prefix_of_the_head_names_the_weights_that_depend_on_the_number_of_outputs(family: str) -> None:
    model = parse_model({"family": family, **SMALL[family]})
    spatial = not FAMILIES[family].per_image
    few, many = (meta_network(model, spec(spatial=spatial, outputs=n)).state_dict() for n in (3, 5))
    differing = {name for name in few if few[name].shape != many[name].shape}
    assert differing
    assert all(name.startswith(model.head) for name in differing)
    assert not all(name.startswith(model.head) for name in few)


@pytest.mark.parametrize("family", SMALL)
def test_a_label_names_the_network_in_one_short_line(family: str) -> None:
    label = parse_model({"family": family, **SMALL[family]}).label
    assert 0 < len(label) < 40
    assert label.isprintable()


@pytest.mark.parametrize("family", SMALL)
def test_the_inspected_modules_are_parts_of_the_network_in_order(family: str) -> None:
    model = parse_model({"family": family, **SMALL[family]})
    network = meta_network(model, spec(spatial=not FAMILIES[family].per_image))
    inspected = list(model.inspected(network).values())
    assert inspected == [module for module in network.modules() if module in inspected]
