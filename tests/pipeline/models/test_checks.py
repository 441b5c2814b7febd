"""What is refused before a network is built."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from torch import nn

from pipeline.errors import UserError
from pipeline.models import FAMILIES, build_network, parse_model
from pipeline.models.base import Family, NetworkSpec, register
from pipeline.models.dry_run import smallest_batch
from tests.pipeline.models.networks import spec


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
    ],
)
def test_a_batch_of_one_is_too_small_where_a_map_has_one_pixel(
    keys: dict[str, Any], size: int, expected: int
) -> None:
    assert smallest_batch(parse_model(keys), spec(size=(size, size))) == expected
