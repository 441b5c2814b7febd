"""The rows of the other networks: as many as the paper prints, and exact counts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from pipeline.models import NetworkSpec, build_network, parse_model
from pipeline.paper.rivals import RivalRow, all_rows, rival_rows
from pipeline.paper.rows import describe_row, figure, find_row
from wavemix import PaperRow, paper_rows

NOT_ON_META = ("cct", "segformer")
"""Families whose libraries compute with numbers while they build."""
CLASSIFIERS = {"cifar10": (10, 3), "tinyimagenet": (200, 3), "imagenet64": (1000, 3), "mnist": (10, 1)}


def spec(row: RivalRow) -> NetworkSpec:
    """What WaveMix-Lite's rows ask of a network on the same data."""
    same = next(
        one for one in paper_rows().values() if (one.dataset, one.image_size) == (row.dataset, row.image_size)
    )
    return NetworkSpec(
        spatial=same.config.task == "segmentation",
        outputs=same.config.num_classes,
        channels=same.config.in_channels,
        size=row.image_size,
    )


def parameters(row: RivalRow) -> int:
    model = parse_model(row.model)
    with torch.device("cpu" if model.family in NOT_ON_META else "meta"):
        network = build_network(model, spec(row))
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_row_of_the_tables_is_there() -> None:
    counts = Counter(reported["table"] for row in rival_rows().values() for reported in row.reported)
    # Table 2 has three datasets, and no TinyImageNet for MobileNetV2, ViT-384 and ViT-Lite.
    assert counts == {1: 7, 2: 11 * 3 - 3, 3: 3 * 7, 4: 6, 6: 3 * 5}
    assert len(all_rows()) == len(paper_rows()) + len(rival_rows())


@pytest.mark.parametrize(
    "name",
    [name for name, row in rival_rows().items() if row.dataset in (*CLASSIFIERS, "cityscapes")],
)
def test_it_has_the_exact_count(name: str) -> None:
    row = rival_rows()[name]
    assert parameters(row) == row.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", rival_rows())
def test_all_have_the_exact_count(name: str) -> None:
    row = rival_rows()[name]
    assert parameters(row) == row.parameters


@pytest.mark.parametrize("name", rival_rows())
def test_it_has_a_figure_and_is_described(name: str) -> None:
    row = find_row(name)
    assert not isinstance(row, PaperRow)
    assert 0 < figure(row)[1] <= 100
    assert f"{row.parameters:,}" in describe_row(row)


def test_figures_as_printed() -> None:
    row = rival_rows()["imagenet64 ResNet-50"]
    (reported,) = row.reported
    assert (reported["top1"], reported["ram_gb_batch64"], reported["train_images_per_second"]) == (
        55.66,
        11.3,
        266,
    )
    assert "cited" not in reported
    assert rival_rows()["cifar10 ResNet-50"].reported[0]["cited"] == "Hassani et al. (2021)"
