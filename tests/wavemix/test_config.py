"""What may be asked of a network, and what is said when it may not."""

import json
from typing import Any

import pytest

from wavemix import ModelConfig, check_image_size, create_model, paper_rows

SMALL: dict[str, Any] = {"task": "classification", "num_classes": 3, "dim": 8, "depth": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "clasification"}, r"unknown task 'clasification' \(did you mean 'classification'\?\)"),
        ({"dim": 30}, "dim is 30; it must be a multiple of 4, for example 28 or 32"),
        ({"dim": "8"}, "dim is '8'; it must be a whole number from 1 to 1048576"),
        ({"depth": 0}, "depth is 0; it must be a whole number"),
        ({"depth": 10**9}, "depth is 1000000000; it must be a whole number from 1 to 1048576"),
        ({"levels": 1.0}, "levels is 1.0; it must be a whole number from 1 to 4"),
        ({"wavelet": ["haar"]}, r"unknown wavelet \['haar'\]"),
        ({"mixer": "dft", "wavelet": "har"}, "unknown wavelet 'har'"),
        ({"depth": True}, "depth is True; it must be a whole number"),
        ({"in_channels": 1.5}, "in_channels is 1.5"),
        ({"dropout": 1}, "dropout is 1; it must be at least 0 and below 1"),
        ({"dropout": "half"}, "dropout is 'half'; it must be a number"),
        ({"levels": 5}, "levels is 5; it must be a whole number from 1 to 4"),
        ({"wavelet": "har"}, r"unknown wavelet 'har' \(did you mean 'haar'\?\)"),
        ({"wavelet": "gaus1"}, "unknown wavelet 'gaus1'"),
        ({"learnable": "yes"}, "learnable is 'yes'"),
        (
            {"expansion": "bilinear", "ff": 16},
            "expansion 'bilinear' keeps the channels: ff must be 8, not 16",
        ),
        ({"mixer": "dft", "learnable": True}, "mixer 'dft' has no wavelet"),
        ({"mixer": "none", "levels": 2}, "mixer 'none' keeps the resolution: levels must be 1, not 2"),
        ({"family": "wavemix", "expansion": "idwt"}, "family 'wavemix' expands by 'deconvolution' only"),
        ({"patch_size": 4, "stem_stride": 2}, "patch_size 4 and stem_stride 2 exclude each other"),
        ({"memory": "leen"}, r"unknown memory 'leen' \(did you mean 'lean'\?\)"),
    ],
)
def test_bad_values_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ModelConfig(**(SMALL | changes))
    assert "\n" not in str(caught.value)


def test_misspelt_and_missing_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown model field 'dept' \(did you mean 'depth'\?\)"):
        ModelConfig.from_dict(SMALL | {"dept": 3})
    with pytest.raises(ValueError, match="the model needs num_classes, dim, depth; given were task"):
        ModelConfig.from_dict({"task": "classification"})


def test_survives_json() -> None:
    config = ModelConfig(**SMALL, wavelet="db2", learnable=True, ff=12, expansion="deconvolution")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("128-7", r" \(did you mean '128/7'\?\)"),
        ("256/16 ff=512", "did you mean '256/16"),
        ("cifar10 64/9", r" \(did you mean 'cifar10 64/"),
        ("128/7 mul3 mul4", "write a size D/N"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        create_model(name, task="classification", num_classes=10)


def test_names_may_be_rows_of_the_paper() -> None:
    config = create_model("cifar10 32/7 bilinear").config
    assert (config.dim, config.depth, config.expansion, config.num_classes) == (32, 7, "bilinear", 10)
    assert create_model("mnist 8/10", num_classes=26, in_channels=3).config.num_classes == 26


def test_paper_rows_cover_the_tables() -> None:
    reported = [figures for row in paper_rows().values() for figures in row.reported]
    counts = {table: sum(figures["table"] == table for figures in reported) for table in range(1, 10)}
    # Tables 2, 3 and 6 hold a figure for each of several datasets.
    assert counts == {1: 3, 2: 6 * 3, 3: 7, 4: 4, 5: 4, 6: 5, 7: 5, 8: 4, 9: 25 + 12}
    contradiction = paper_rows()["cityscapes-256x512 256/16 ff512 mul3"]
    assert {figures["table"] for figures in contradiction.reported} == {4, 9}
    assert "44.1 M" in contradiction.notes[0]


@pytest.mark.parametrize("row", paper_rows().values(), ids=lambda row: row.name)
def test_paper_rows_take_their_images(row: Any) -> None:
    check_image_size(row.config, *row.image_size)


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({"levels": 4}, (15, 64), "images of 15x64 are too small for 4 level.*at least 16"),
        ({"levels": 3, "stem_stride": 2}, (28, 28), "both sides must be at least 29"),
        ({"task": "segmentation", "patch_size": 4}, (64, 30), "both sides must be multiples of 4"),
    ],
)
def test_image_sizes_that_do_not_suit_are_refused(
    changes: dict[str, Any], size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_image_size(ModelConfig(**(SMALL | changes)), *size)
