"""The network of an experiment, against its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.params import Params
from pipeline.tasks.network import build_network
from tests.pipeline.toy import toy_params, write_shards

RESNET = {"family": "resnet", "depth": 18}
"""At the toy's 8x12 pixels its last maps have one pixel."""
PHASES = [{"optimizer": "adamw", "epochs": 1}]


def params_for(model: dict[str, Any], **train: Any) -> Params:
    return toy_params(model=model, train={"phases": PHASES, **train})


@pytest.mark.parametrize(
    "settings", [{"batch_size": 16}, {"batch_size": 2}, {"batch_size": 17, "accumulate": 16}]
)
def test_a_batch_of_one_is_refused_where_batch_norm_sees_one_pixel(
    settings: dict[str, int], tmp_path: Path
) -> None:
    manifest = write_shards(tmp_path / "shards", counts={"train": 17, "val": 2})
    with pytest.raises(
        UserError, match=r"leaves a step a single image of the 17 samples .* ResNet-18 see maps of one"
    ):
        build_network(params_for(RESNET, **settings), manifest)


@pytest.mark.parametrize("settings", [{"batch_size": 15}, {"batch_size": 64}, {"batch_size": "auto"}])
def test_batches_of_two_and_more_are_taken(settings: dict[str, Any], tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards", counts={"train": 17, "val": 2})
    build_network(params_for(RESNET, **settings), manifest)


def test_a_batch_of_one_is_taken_where_maps_are_larger(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards", counts={"train": 17, "val": 2})
    build_network(params_for({"dim": 8, "depth": 1}, batch_size=16), manifest)
