"""Exact parameter counts of the paper's tables: they pin the architecture down."""

from typing import Any

import pytest
import torch

from wavemix import ModelConfig, PaperRow, build_model, paper_rows
from wavemix.config import parse_size

LIGHT: list[tuple[str, int, dict[str, Any], int]] = [
    # Table 5
    ("64/6", 10, {}, 520_106),
    ("8/5", 10, {"in_channels": 1}, 7_156),
    ("8/10", 10, {"in_channels": 1, "expansion": "bilinear"}, 3_566),
    ("8/10", 10, {"in_channels": 1, "expansion": "bicubic"}, 3_566),
    ("8/10", 10, {"in_channels": 1, "expansion": "idwt"}, 3_566),
    ("32/7", 10, {"expansion": "bilinear"}, 37_058),
    # Table 1
    ("128/7", 1000, {}, 2_532_680),
    ("128/14", 1000, {}, 4_860_712),
    ("256/7", 1000, {}, 9_856_680),
    # Table 2
    ("16/7", 10, {}, 38_550),
    ("32/7", 10, {}, 151_970),
    ("64/7", 10, {}, 603_450),
    ("128/7", 10, {}, 2_404_970),
    ("144/7", 10, {}, 3_042_550),
    ("256/7", 10, {}, 9_602_250),
    ("128/7", 100, {}, 2_416_580),
    ("256/7", 100, {}, 9_625_380),
    # Table 7
    ("128/7", 62, {"in_channels": 1}, 2_410_526),
    ("128/7", 47, {"in_channels": 1}, 2_408_591),
    ("112/16", 26, {"in_channels": 1}, 4_135_514),
    ("112/16", 10, {"in_channels": 1}, 4_133_706),
    ("128/16 ff256", 47, {"in_channels": 1}, 10_122_415),
    # Table 8
    ("144/7", 10, {"levels": 2}, 5_945_590),
    ("144/7", 10, {"levels": 3}, 15_235_318),
    ("144/7", 10, {"levels": 4}, 47_749_366),
]
CITYSCAPES = {  # Table 9
    "128/8": 2_900_852,
    "128/20 mul3": 7_549_684,
    "160/12": 6_607_340,
    "192/12": 9_510_884,
    "224/12": 12_941_788,
    "256/7 ff160": 7_159_284,
    "256/7 ff160 mul3": 7_906_548,
    "256/7 ff192 mul3": 8_996_308,
    "256/12 ff160": 11_590_484,
    "256/12 ff192": 13_360_340,
    "256/12 ff224": 15_130_196,
    "256/12": 16_900_052,
    "256/12 ff1024 mul3": 63_311_828,
    "256/16 ff272 mul3": 25_561_556,
    "256/16 ff512 mul3": 44_243_156,
    "256/16 ff512 mul4": 47_392_980,
    "256/16 ff1024 mul3": 84_097_236,
    "256/18 ff512 mul3": 49_654_100,
    "256/20 mul3": 30_156_244,
    "256/20 ff512 mul3": 55_065_044,
    "272/16": 25_076_448,
    "288/16": 28_111_340,
    "304/16": 31_319_544,
    "320/16 ff512 mul3": 56_663_812,
    "512/12 ff1024 mul3": 133_623_700,
    "256/7": 10_256_532,
    "256/10": 14_242_644,
    "256/14": 19_557_460,
    "256/16": 22_214_868,
    "256/17": 23_543_572,
    "256/18": 24_872_276,
    "256/20": 27_529_684,
    "240/16": 19_526_600,
}


def count(name: str, task: str, num_classes: int, **keywords: Any) -> int:
    return parameters(
        ModelConfig.from_dict({**parse_size(name), "task": task, "num_classes": num_classes, **keywords})
    )


def parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


@pytest.mark.parametrize(("name", "classes", "keywords", "expected"), LIGHT)
def test_classification(name: str, classes: int, keywords: dict[str, Any], expected: int) -> None:
    assert count(name, "classification", classes, **keywords) == expected


@pytest.mark.parametrize("name", CITYSCAPES)
def test_segmentation(name: str) -> None:
    assert count(name, "segmentation", 20, stem_stride=2) == CITYSCAPES[name]


@pytest.mark.parametrize("row", paper_rows().values(), ids=lambda row: row.name)
def test_rows_of_the_paper(row: PaperRow) -> None:
    assert parameters(row.config) == row.parameters
