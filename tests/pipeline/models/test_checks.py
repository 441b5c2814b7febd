"""What is refused before a network is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.models import FAMILIES, build_network, parse_model
from pipeline.models.base import Family, NetworkSpec, register
from pipeline.models.classifiers.vit import ViTFamily
from pipeline.models.dry_run import smallest_batch
from tests.pipeline.models.networks import spec
from wavemix.measure import saved_bytes


class Toy(Family):
    """A family whose library nobody has."""

    family: Literal["toy"] = "toy"
    requires = ("no_such_library",)
    per_image = True

    @property
    def label(self) -> str:
        return "Toy"

    def build(self, spec: NetworkSpec) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(spec.channels * spec.size[0] * spec.size[1], spec.outputs)
        )

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        return {"all": network}


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy", Toy)


def test_registering_offers_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "toy", raising=False)
    monkeypatch.setitem(FAMILIES, "toy", FAMILIES["resnet"])
    assert register(Toy) is Toy
    assert parse_model({"family": "toy"}) == Toy()


@pytest.mark.usefixtures("_toy")
def test_a_family_whose_library_is_missing_says_how_to_install_it() -> None:
    with pytest.raises(
        UserError, match=r"toy needs no_such_library, not installed here; run `uv sync --extra"
    ):
        build_network(parse_model({"family": "toy"}), spec())


@pytest.mark.parametrize(
    ("keys", "demands", "message"),
    [
        ({"dim": 6, "depth": 1}, {}, "params.yaml: model: dim is 6; it must be a multiple of 4"),
        ({"dim": 8, "depth": 1, "levels": 4}, {"size": (8, 8)}, "images of 8x8 are too small"),
        (
            {"family": "resnet", "depth": 18},
            {"spatial": True},
            "got resnet, which answers once per image; for one answer per pixel take one of .*wavemix-lite",
        ),
        (
            {"family": "resnet", "depth": 18},
            {"memory": "lean"},
            "train.memory: got lean, which resnet does not know; take default, or one of .*wavemix-lite",
        ),
        (
            {"family": "unet"},
            {},
            "got unet, which answers once per pixel; for one answer per image take one of cct, .*resnet",
        ),
        ({"family": "vit", "heads": 3}, {}, "dim is 128; it must be a multiple of heads, 3"),
        (
            {"family": "vit", "patch": 4},
            {"size": (30, 32)},
            "images of 30x32 do not divide into squares of 4: both sides must be multiples of 4",
        ),
        ({"family": "cpv", "dim": 6, "heads": 2}, {}, "dim is 6; it must be a multiple of 4 and at least 3"),
        ({"family": "segformer"}, {"spatial": True, "size": (48, 64)}, "both sides must be multiples of 32"),
        ({"family": "convmixer"}, {"spatial": True, "size": (64, 60)}, "both sides must be multiples of 8"),
        ({"family": "convmixer", "dim": 4}, {"spatial": True}, "dim is 4; it must be a multiple of patch, 8"),
        ({"family": "convmixer", "kernel": 8}, {"spatial": True}, "kernel is 8; it must be odd"),
        (
            {"family": "timm", "name": "resnt18"},
            {},
            r"name: got 'resnt18' \(did you mean 'resnet18'\?\), allowed",
        ),
        ({"family": "timm", "name": "hf-hub:a/b"}, {}, "name: got 'hf-hub:a/b', allowed: those of timm"),
        ({"family": "timm", "name": "resnet18.nosuch"}, {}, "Invalid pretrained tag"),
        (
            {"family": "timm", "name": "inception_v3"},
            {},
            "inception_v3 does not take images of 32x32 in 3 channels: .*Kernel size",
        ),
        (
            {"family": "smp", "architecture": "unt", "encoder": "resnet34"},
            {"spatial": True},
            r"architecture: got 'unt' \(did you mean 'unet'\?\), allowed: unet, ",
        ),
        (
            {"family": "smp", "architecture": "unet", "encoder": "tu-hf-hub:a/b"},
            {"spatial": True},
            "encoder: got 'tu-hf-hub:a/b', allowed: those of",
        ),
        (
            {"family": "smp", "architecture": "fpn", "encoder": "resnet18"},
            {"spatial": True, "size": (40, 40)},
            "fpn resnet18 does not take images of 40x40 in 3 channels: .*divisible by 32",
        ),
    ],
)
def test_what_a_network_cannot_do_is_one_line(
    keys: dict[str, Any], demands: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_network(parse_model(keys), spec(**demands))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "size", "expected"),
    [
        ({"family": "resnet", "depth": 18}, 32, 2),
        ({"family": "resnet", "depth": 18}, 33, 1),
        ({"family": "resnet", "depth": 18, "stem": "cifar"}, 9, 1),
        ({"family": "resnet", "depth": 18, "stem": "cifar"}, 8, 2),
        ({"dim": 8, "depth": 1}, 64, 1),
        ({"family": "vit", "dim": 8, "depth": 1}, 8, 1),
    ],
)
def test_a_batch_of_one_is_too_small_where_a_map_has_one_pixel(
    keys: dict[str, Any], size: int, expected: int
) -> None:
    assert smallest_batch(parse_model(keys), spec(size=(size, size))) == expected


@pytest.mark.parametrize(
    "keys",
    [
        {"family": "timm", "name": "resnet10t", "pretrained": True},
        {"family": "smp", "architecture": "unet", "encoder": "resnet18", "pretrained": True},
        {"family": "smp", "architecture": "unet", "encoder": "tu-resnet10t", "pretrained": True},
    ],
    ids=str,
)
def test_weights_out_of_reach_are_one_line(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"model.pretrained: got true, but the weights of .* connect"
    ) as caught:
        build_network(parse_model(keys), spec(spatial=keys["family"] == "smp"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "patch"),
    [((32, 32), 1), ((64, 64), 2), ((28, 28), 1), ((96, 96), 3), ((256, 512), 8), ((100, 100), 2)],
)
def test_patches_of_no_given_size_tile_any_image(size: tuple[int, int], patch: int) -> None:
    assert ViTFamily().patch_side(size) == patch


@pytest.mark.parametrize("family", ["vit", "fnet", "hybrid_vin", "mlp_mixer"])
def test_lean_networks_give_the_same_gradients_and_keep_less(family: str) -> None:
    model = parse_model({"family": family, "dim": 16})
    kept, gradients = [], []
    for memory in ("default", "lean"):
        torch.manual_seed(0)
        network = build_network(model, spec(memory=memory, size=(16, 16)))
        images = torch.randn(2, 3, 16, 16)
        kept.append(saved_bytes(network, images))
        network(images).square().sum().backward()
        gradients.append([weights.grad for weights in network.parameters()])
    assert kept[1] < kept[0] / 2
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True) if a is not None)
