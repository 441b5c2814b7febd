"""What is prepared again when raw files change: only what must be, and the bytes are those of a fresh start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.raw.listing import Sample
from pipeline.data.shards.manifest import read_manifest
from pipeline.prepare import convert
from pipeline.prepare.preparation import cut_by_key
from tests.pipeline.workshop import Workshop, encoded, noise, png

SHARDS = 4
"""Samples at most in a shard of these tests."""


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the samples that are read from raw files, as they are read."""
    names: list[str] = []
    read = convert._read

    def seen(sample: Sample, *others: Any) -> Any:
        names.append(sample.name)
        return read(sample, *others)

    monkeypatch.setattr(convert, "_read", seen)
    return names


def again(workshop: Workshop, converted: list[str], **dataset: Any) -> tuple[set[str], set[str]]:
    """Prepare over what is there: the samples that were read and the shards that are other files now.

    The result is checked against that of a fresh start.
    """
    settings = {"samples_per_shard": SHARDS, "sizes": [[8, 8], [4, 4]], **dataset}
    before = {path: path.stat().st_ino for path in Path("data/shards").rglob("*.tar")}
    converted.clear()
    workshop.prepare(**settings)
    read = set(converted)
    shards = Path("data/shards").rglob("*.tar")
    rewritten = {path.name for path in shards if before.get(path) != path.stat().st_ino}
    mine = workshop.snapshot()
    assert workshop.fresh(**settings) == mine
    workshop.prepare(**settings)
    return read, rewritten


def shard_of(name: str, split: str = "train") -> set[str]:
    """The shard of the 8x8 ones that holds the sample called ``name``."""
    key = f"{Sample(name, None, 0).key:019d}".encode()  # type: ignore[arg-type]
    folder = Path("data/shards/own/8x8")
    return {path.name for path in folder.glob(f"{split}-*.tar") if key in path.read_bytes()}


def samples_in(manifest_shards: set[str]) -> int:
    splits = read_manifest(Path("data/shards/own/8x8")).splits.values()
    return sum(shard.samples for split in splits for shard in split.shards if shard.name in manifest_shards)


def test_nothing_new_reads_nothing(workshop: Workshop, converted: list[str]) -> None:
    workshop.classes(images=12)
    again(workshop, converted)
    assert again(workshop, converted) == (set(), set())


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_more_image_makes_its_shard_again_and_no_other(
    workshop: Workshop, converted: list[str], split: str
) -> None:
    workshop.classes(images=12)
    again(workshop, converted)
    for number in range(8):  # some fill their shard, which is cut in two: the later ones get other names only
        image = png(noise(9, 9, seed=number))
        workshop.write(f"{split}/cat/new {number}.png", image)
        read, rewritten = again(workshop, converted)
        shards = shard_of(f"{split}/cat/new {number}.png", split)
        assert f"{split}/cat/new {number}.png" in read
        assert len(read) <= SHARDS + 1
        assert shards <= rewritten


def test_one_image_less_makes_its_shard_again_and_no_other(workshop: Workshop, converted: list[str]) -> None:
    workshop.classes(images=12)
    again(workshop, converted)
    for number in range(8):
        (workshop.raw / f"train/dog/{number}.png").unlink()
        read, _ = again(workshop, converted)
        assert len(read) <= SHARDS
        assert f"train/dog/{number}.png" not in read


def test_a_changed_image_makes_its_shard_again(workshop: Workshop, converted: list[str]) -> None:
    workshop.classes(images=12)
    again(workshop, converted)
    workshop.write("train/dog/3.png", png(noise(30, 30)))
    read, rewritten = again(workshop, converted)
    assert rewritten == shard_of("train/dog/3.png")
    assert len(read) == samples_in(rewritten)


def test_a_file_written_again_with_as_many_bytes_is_read_again(
    workshop: Workshop, converted: list[str]
) -> None:
    """The fingerprint does not see it; when something else has `prepare` run, no shard of old pixels is kept."""
    for i in range(24):
        workshop.write(f"train/{'ab'[i % 2]}/{i}.bmp", bitmap(i))
        workshop.write(f"val/{'ab'[i % 2]}/{i}.bmp", bitmap(i))
    again(workshop, converted)
    path = workshop.write("train/a/4.bmp", bitmap(100))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    read, rewritten = again(workshop, converted)
    assert rewritten == shard_of("train/a/4.bmp")
    assert "train/a/4.bmp" in read


def bitmap(seed: int) -> bytes:
    return encoded(Image.fromarray(noise(8, 8, seed=seed)), "BMP")


def test_a_renamed_class_is_prepared_as_from_a_fresh_start(workshop: Workshop, converted: list[str]) -> None:
    workshop.classes(names="cat dog emu", images=12)
    again(workshop, converted)
    for split in ("train", "val"):
        (workshop.raw / split / "dog").rename(workshop.raw / split / "zebra")
    read, _ = again(workshop, converted)
    assert read >= {f"train/emu/{i}.png" for i in range(12)}  # their class has another number now
    assert read_manifest(workshop.shards()).class_names == ["cat", "emu", "zebra"]


@pytest.mark.parametrize(
    "change", [{"sizes": [[8, 8]]}, {"sizes": [[9, 8], [4, 4]]}, {"filter": "area"}, {"encoding": "png"}]
)
def test_what_changes_all_shards_makes_all_again(
    workshop: Workshop, converted: list[str], change: dict[str, Any]
) -> None:
    workshop.classes(images=6)
    again(workshop, converted)
    read, _ = again(workshop, converted, **change)
    assert len(read) == 24


def test_an_edit_of_the_code_makes_all_again(
    workshop: Workshop, converted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.classes(images=6)
    again(workshop, converted)
    monkeypatch.setattr("pipeline.prepare.carry_over.source_digest", lambda *_: "edited")
    assert len(again(workshop, converted)[0]) == 24


def test_a_damaged_shard_is_made_again(workshop: Workshop, converted: list[str]) -> None:
    workshop.classes(images=6)
    again(workshop, converted)
    shard = next(Path("data/shards/own/4x4").glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    read, rewritten = again(workshop, converted)
    assert rewritten == {shard.name}
    assert len(read) == samples_in(rewritten)


def test_a_sample_that_was_left_out_is_tried_again(workshop: Workshop, converted: list[str]) -> None:
    workshop.classes(images=6)
    path = workshop.write("train/cat/bad.png", b"")
    again(workshop, converted, max_corrupt=1)
    times = path.stat()
    image = png(noise(9, 9))
    path.write_bytes(image)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    read, _ = again(workshop, converted, max_corrupt=1)
    assert "train/cat/bad.png" in read


def test_the_shards_in_place_stay_until_the_new_ones_are_whole(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.classes(images=12)
    workshop.prepare(samples_per_shard=SHARDS)
    old = workshop.snapshot()
    workshop.write("train/cat/new.png", png(noise(9, 9)))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.prepare.preparation._move_into_place", stop)
        with pytest.raises(KeyboardInterrupt):
            workshop.prepare(samples_per_shard=SHARDS)
    assert workshop.snapshot() == old
    workshop.prepare(samples_per_shard=SHARDS)
    got = workshop.snapshot()
    assert got != old
    assert workshop.fresh(samples_per_shard=SHARDS) == got


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'[{"split": "train"}]'])
def test_a_broken_memory_of_the_last_time_costs_only_time(workshop: Workshop, content: bytes) -> None:
    workshop.classes()
    workshop.prepare()
    want = workshop.snapshot()
    Path(".work/prepare/own.json").write_bytes(content)
    workshop.prepare()
    assert workshop.snapshot() == want


def test_where_files_cannot_be_linked_they_are_copied(
    workshop: Workshop, converted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    workshop.classes(images=6)
    workshop.prepare(samples_per_shard=SHARDS)
    want = workshop.snapshot()
    monkeypatch.setattr(os, "link", refuse)
    converted.clear()
    workshop.prepare(samples_per_shard=SHARDS)
    assert converted == []
    assert workshop.snapshot() == want


def by_key(count: int) -> list[Sample]:
    image: Any = None
    return sorted((Sample(f"train/{i}.png", image, 0) for i in range(count)), key=lambda sample: sample.key)


@pytest.mark.parametrize("most", [1, 3, 50])
def test_parts_are_a_partition_that_one_more_sample_changes_in_one_place(most: int) -> None:
    samples = by_key(400)
    for count in range(1, 400, 7):
        some = by_key(count)
        parts = cut_by_key(some, most)
        assert [sample for part in parts for sample in part] == some
        assert all(0 < len(part) <= most for part in parts)
    before = {frozenset(part) for part in cut_by_key(samples, most)}
    after = {frozenset(part) for part in cut_by_key(by_key(401), most)}
    assert len(before - after) <= 1


def test_parts_are_filled_to_half_as_a_rule() -> None:
    parts = cut_by_key(by_key(20_000), 1000)
    assert np.mean([len(part) for part in parts]) > 400
    assert len(parts) == 32
