"""Every network of the paper, against the counts that its libraries and its authors give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.models import FAMILIES, build_network, parse_model
from pipeline.models.dry_run import meta_network
from pipeline.models.features import feature_maps
from pipeline.models.inputs import place
from tests.pipeline.models.networks import SMALL, count, small, spec, torchsummary_count

IMAGENET64 = {"outputs": 1000, "size": (64, 64)}
TINY = {"outputs": 200, "size": (64, 64)}
MNIST = {"channels": 1, "size": (28, 28)}
STREETS = {"spatial": True, "outputs": 20, "size": (256, 512)}
VIT_BASE = {"family": "vit", "dim": 768, "depth": 12, "heads": 12, "patch": 16, "mlp_ratio": 4.0}
VIT_SMALL = {
    "family": "vit",
    "dim": 384,
    "depth": 12,
    "heads": 6,
    "patch": 4,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
}

ROWS: list[tuple[dict[str, Any], dict[str, Any], int, int | None]] = [
    ({"family": "resnet", "depth": 18}, {}, 11_181_642, None),
    ({"family": "resnet", "depth": 34}, {}, 21_289_802, None),
    ({"family": "resnet", "depth": 50}, {}, 23_528_522, None),
    ({"family": "resnet", "depth": 101}, {}, 42_520_650, None),
    ({"family": "resnet", "depth": 18}, IMAGENET64, 11_689_512, None),
    ({"family": "resnet", "depth": 34}, IMAGENET64, 21_797_672, None),
    ({"family": "resnet", "depth": 50}, IMAGENET64, 25_557_032, None),
    ({"family": "resnet", "depth": 101}, IMAGENET64, 44_549_160, None),
    ({"family": "resnet", "depth": 18}, MNIST, 11_175_370, None),
    ({"family": "resnet", "depth": 34}, MNIST, 21_283_530, None),
    ({"family": "resnet", "depth": 50}, MNIST, 23_522_250, None),
    ({"family": "resnet", "depth": 18, "stem": "cifar"}, {}, 11_173_962, None),
    ({"family": "resnet", "depth": 34, "stem": "cifar"}, {}, 21_282_122, None),
    ({"family": "resnet", "depth": 50, "stem": "cifar"}, {}, 23_520_842, None),
    ({"family": "resnet", "depth": 101, "stem": "cifar"}, {}, 42_512_970, None),
    ({"family": "resnet", "depth": 18, "stem": "cifar"}, IMAGENET64, 11_681_832, None),
    ({"family": "resnet", "depth": 34, "stem": "cifar"}, IMAGENET64, 21_789_992, None),
    ({"family": "resnet", "depth": 50, "stem": "cifar"}, IMAGENET64, 25_549_352, None),
    ({"family": "resnet", "depth": 101, "stem": "cifar"}, IMAGENET64, 44_541_480, None),
    ({"family": "mobilenet_v2", "width": 2.0}, {}, 8_722_698, None),
    ({"family": "vit"}, {}, 661_770, 530_442),
    ({"family": "vit"}, IMAGENET64, 790_632, 659_304),
    ({"family": "vit", "dim": 256, "depth": 6, "patch": 4}, {}, 3_190_538, None),
    (VIT_BASE, {}, 85_631_242, None),
    (VIT_SMALL, {}, 21_342_346, None),
    ({"family": "hybrid_vin"}, {}, 755_034, 623_706),
    ({"family": "cpv"}, {}, 1_345_994, None),
    ({"family": "cpv"}, IMAGENET64, 1_473_704, None),
    ({"family": "cct"}, {}, 1_036_619, 905_547),
    ({"family": "cct"}, IMAGENET64, 1_164_329, 1_033_257),
    ({"family": "cvt"}, {}, 1_102_602, None),
    ({"family": "cvt"}, TINY, 1_127_112, 1_124_296),
    ({"family": "mlp_mixer"}, {}, 2_415_626, None),
    ({"family": "fnet"}, {}, 399_114, None),
    ({"family": "unet"}, STREETS, 14_330_964, None),
    ({"family": "unet", "encoder": "mobilenet_v2"}, STREETS, 6_631_700, None),
    ({"family": "deeplab_v2"}, STREETS, 43_974_800, None),
    ({"family": "segformer"}, STREETS, 3_719_284, None),
    ({"family": "convmixer"}, STREETS, 7_761_108, None),
]
"""Keys, demands of the data, the exact number of weights, and torchsummary's where the paper printed that."""


def name_of(value: object) -> str:
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("keys", "demands", "expected", "printed"), ROWS, ids=name_of)
def test_a_row_of_the_paper_has_the_exact_number_of_weights(
    keys: dict[str, Any], demands: dict[str, Any], expected: int, printed: int | None
) -> None:
    network = meta_network(parse_model(keys), spec(**demands))
    assert count(network) == expected
    assert printed is None or torchsummary_count(network) == printed


def test_every_family_has_a_small_network_here() -> None:
    assert SMALL.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", SMALL)
def test_a_network_gives_logits_trains_and_keeps_them_in_its_inference_form(family: str) -> None:
    model, demands = small(family, outputs=3, channels=1)
    torch.manual_seed(0)
    network = place(build_network(model, demands), torch.device("cpu"))
    images = torch.randn(2, 1, *demands.size)
    logits = network(images)
    assert logits.shape == ((2, 3, 32, 32) if demands.spatial else (2, 3))
    logits.square().mean().backward()  # and it has moved the statistics of batch norms from where they begin
    assert [name for name, weights in network.named_parameters() if weights.grad is None] == []
    inference = model.for_inference(network)
    assert not inference.training
    assert network.training
    assert torch.allclose(inference(images), network.eval()(images), atol=1e-5)


@pytest.mark.parametrize("family", SMALL)
def test_the_prefix_of_the_head_names_the_weights_that_depend_on_the_number_of_outputs(family: str) -> None:
    few, many = (meta_network(*small(family, outputs=outputs)).state_dict() for outputs in (3, 5))
    head = small(family)[0].head
    differing = {name for name in few if few[name].shape != many[name].shape}
    assert differing
    assert all(name.startswith(head) for name in differing)
    assert not all(name.startswith(head) for name in few)


@pytest.mark.parametrize("family", SMALL)
def test_a_label_names_the_network_in_one_short_line(family: str) -> None:
    label = small(family)[0].label
    assert 0 < len(label) < 40
    assert label.isprintable()


@pytest.mark.parametrize("family", SMALL)
def test_inspected_modules_give_maps_in_order_and_in_the_images_proportions(family: str) -> None:
    model, demands = small(family, size=(32, 64))
    network = model.build(demands).eval()
    inspected = model.inspected(network)
    maps = feature_maps(network, inspected, torch.randn(2, 3, 32, 64))
    assert list(maps) == list(inspected)
    assert maps
    assert all(values.shape[0] == 2 and 2 * values.shape[2] == values.shape[3] for values in maps.values())


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2", "unet", "deeplab_v2"])
def test_the_inference_form_of_a_convolutional_network_has_no_batch_norm(family: str) -> None:
    model, demands = small(family)
    network = model.build(demands)
    inference = model.for_inference(network)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in inference.modules())


@pytest.mark.parametrize(
    ("keys", "label", "description"),
    [
        (
            {"family": "resnet", "depth": 18, "stem": "cifar"},
            "ResNet-18 (CIFAR stem)",
            "ResNet-18 (CIFAR stem)",
        ),
        ({"family": "vit", "dim": 256, "depth": 6, "patch": 4}, "ViT-256/6x4 patch 4", "ViT-256/6x4 patch 4"),
        ({"family": "cct", "mlp_ratio": 2.0}, "CCT-128/4x4", "CCT-128/4x4 mlp_ratio 2.0"),
        (
            {"family": "timm", "name": "resnet10t", "pretrained": True},
            "resnet10t",
            "resnet10t pretrained True",
        ),
    ],
)
def test_a_description_tells_the_keys_that_the_label_leaves_out(
    keys: dict[str, Any], label: str, description: str
) -> None:
    model = parse_model(keys)
    assert (model.label, model.description) == (label, description)
