"""Findings about the data, on images drawn to be found, and what `prepare` says at its end."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.prepare.summary import describe
from pipeline.report.data_section import data_text
from tests.pipeline.workshop import Workshop, encoded, noise, png


def image(seed: int, side: int = 10) -> bytes:
    return png(noise(side, side, seed=seed))


def distinct(workshop: Workshop) -> None:
    """Two classes of three images in train and of two in val, no two alike."""
    for number, (split, name, count) in enumerate(
        [("train", "cat", 3), ("train", "dog", 3), ("val", "cat", 2), ("val", "dog", 2)]
    ):
        for i in range(count):
            workshop.write(f"{split}/{name}/{i}.png", image(10 * number + i))


def test_nothing_is_found_in_distinct_images(workshop: Workshop) -> None:
    distinct(workshop)
    manifest = workshop.prepare()[0]
    assert list(manifest.notes()) == []
    assert manifest.warnings() == []
    assert list(describe(manifest)) == [
        "own 8x8: train 6, val 4 samples; 2 classes: cat, dog",
        "own 8x8: not taken: nothing",
    ]
    # A reader of official archives looks for known names only, and says so.
    assert list(describe(manifest.model_copy(update={"passed_over": None})))[1] == (
        "own 8x8: not taken: files beside those of the official names, which are not counted"
    )


def test_equal_images_are_found_whatever_file_they_come_from(workshop: Workshop) -> None:
    distinct(workshop)
    same = noise(10, 10, seed=0)
    workshop.write("train/cat/again.bmp", encoded(Image.fromarray(same), "BMP"))
    workshop.write("val/cat/leak.png", png(same))
    workshop.write("val/dog/leak.png", png(same))
    manifest = workshop.prepare(samples_per_shard=3)[0]
    findings = manifest.findings
    assert findings is not None
    assert {split: found.count for split, found in findings.repeated.items()} == {"train": 1, "val": 1}
    assert findings.leaked["val"].count == 2
    assert findings.contradicted.count == 1
    assert findings.contradicted.examples[0][1] == "val/dog/leak.png"
    [warning] = manifest.warnings()
    assert warning.startswith("2 of val also in train (train/cat/")
    lines = list(describe(manifest))
    assert any("1 of train repeated within it" in line and "1 with another label" in line for line in lines)
    assert lines[-1] == f"warning: own 8x8: {warning}"
    page = data_text(manifest)
    assert "Warning: 2 of val also in train" in page
    assert "1 with another label than an equal image" in page


def test_images_count_as_equal_at_the_prepared_size_only(workshop: Workshop) -> None:
    distinct(workshop)
    pixels = np.full((16, 16), 100, np.uint8)
    checks = pixels.copy()
    checks[::2, ::2], checks[1::2, 1::2] = 90, 110
    workshop.write("train/cat/flat.png", png(pixels))
    workshop.write("train/cat/fine.png", png(checks))
    small, large = workshop.prepare(sizes=[[8, 8], [16, 16]], channels=1)
    assert small.findings is not None
    assert large.findings is not None
    assert small.findings.repeated["train"].count == 1
    assert large.findings.repeated["train"].count == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_corrupt_samples_do_not_shift_the_names(
    workshop: Workshop, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.prepare.preparation.SMALL", 0)
    distinct(workshop)
    for i in range(4):
        workshop.write(f"train/cat/bad{i}.png", b"no image")
    workshop.write("train/dog/a.png", image(99))
    workshop.write("train/dog/b.png", image(99))
    manifest = workshop.prepare(workshop.params(workers=workers, max_corrupt=4, samples_per_shard=2))[0]
    assert manifest.findings is not None
    assert [set(pair) for pair in manifest.findings.repeated["train"].examples] == [
        {"train/dog/a.png", "train/dog/b.png"}
    ]
    assert "own 8x8: not taken: 4 left out (train/cat/bad" in "\n".join(describe(manifest))


def test_one_image_with_two_masks(workshop: Workshop) -> None:
    for split, seed, ids in (("train", 1, 0), ("train", 2, 1), ("val", 1, 1), ("val", 3, 0)):
        workshop.write(f"images/{split}/{seed}.png", image(seed))
        workshop.write(f"masks/{split}/{seed}.png", png(np.full((10, 10), ids, np.uint8)))
    manifest = workshop.prepare(reader="mask_folder", options={"classes": "a, b"})[0]
    assert manifest.findings is not None
    assert manifest.findings.contradicted.count == 1
    assert manifest.findings.contradicted.examples == [("train/1.png", "val/1.png")]


def test_small_images_and_unequal_classes(workshop: Workshop) -> None:
    for i in range(20):
        workshop.write(f"train/cat/{i}.png", image(i, side=7))
    workshop.write("train/dog/0.png", image(50, side=8))
    workshop.write("val/dog/0.png", image(51, side=40))
    manifest = workshop.prepare(sizes=[[16, 16]])[0]
    assert list(manifest.notes()) == [
        "20 of train less than half as large as prepared",
        "class cat has 20 times the samples of dog",
    ]
    assert manifest.warnings() == ["val: no samples of cat"]


def test_names_do_not_reach_the_terminal_as_they_are(workshop: Workshop) -> None:
    distinct(workshop)
    workshop.write("train/\x1b[31mred/0.png", image(77))
    workshop.write("train/\x1b[31mred/1.png", image(77))
    text = "\n".join(describe(workshop.prepare()[0]))
    assert "\x1b" not in text
    assert r"\x1b[31mred" in text


def test_a_constant_channel_has_a_deviation(workshop: Workshop) -> None:
    for split in ("train", "val"):
        for i in range(2):
            pixels = noise(10, 10, seed=i)
            pixels[..., 1] = 7
            workshop.write(f"{split}/a/{i}.png", png(pixels))
    manifest = workshop.prepare()[0]
    assert manifest.std[1] == pytest.approx(1 / 255, abs=1e-6)
    assert manifest.std[0] > 0.1
