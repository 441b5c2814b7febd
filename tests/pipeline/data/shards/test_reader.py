"""Raw shards read by arithmetic, checked against a walk over their members, against damage, and by what they touch."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.loading.order import SampleOrder
from pipeline.data.loading.streaming import StreamLoader
from pipeline.data.shards.encoding import encode_image, members
from pipeline.data.shards.equal_samples import EqualSamples
from pipeline.data.shards.manifest import FILE_NAME, Manifest, Split
from pipeline.data.shards.reader import ShardReader, empty_samples
from pipeline.data.shards.targets import TARGETS
from pipeline.data.shards.writer import ShardWriter
from tests.pipeline.toy import draw, write_shards

STRIDE = 2048  # of a sample of the toy data, 8x12


def write_raw(folder: Path, task: str = "classification") -> Manifest:
    """Write the toy data, its first shard as this project writes raw ones: the image before its target."""
    manifest = write_shards(folder, task)
    images, targets = draw(task, 50, 0)
    with ShardWriter(folder / "train-000000.tar") as writer:
        for key, (image, target) in enumerate(zip(images[:20], targets[:20], strict=True)):
            target = int(target) if task == "classification" else target
            writer.add(key, members(encode_image(image, "raw", 95), target, TARGETS[task], "raw"))
    return manifest


def read(folder: Path, manifest: Manifest, positions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    images, targets = empty_samples(manifest, len(positions))
    reader = ShardReader(folder, manifest.split("train").shards[0], manifest)
    reader.read(np.array(positions, np.int64), images, targets)
    return images, targets


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("positions", [[], [0], [19], list(range(20)), [7, 3, 11, 4], [3, 3]])
def test_arithmetic_finds_what_a_walk_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, positions: list[int]
) -> None:
    manifest = write_raw(tmp_path / "shards", task)
    with monkeypatch.context() as patched:
        patched.setattr(ShardReader, "sample", None)  # which the walk needs
        by_arithmetic = read(tmp_path / "shards", manifest, positions)
    monkeypatch.setattr(EqualSamples, "find", lambda *_: None)
    by_walk = read(tmp_path / "shards", manifest, positions)
    images, targets = draw(task, 50, 0)
    for ours, walked, drawn in zip(by_arithmetic, by_walk, (images, targets), strict=True):
        np.testing.assert_array_equal(ours, walked)
        np.testing.assert_array_equal(ours, drawn[positions])


def test_class_numbers_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    names = [str(number) for number in range(12_000)]
    manifest = write_shards(folder).model_copy(update={"class_names": names})
    drawn, _ = draw("classification", 20, 0)
    classes = [0, 9, 10, 99, 100, 1000, 9999, 10_000, 11_999, 5] * 2
    with ShardWriter(folder / "train-000000.tar") as writer:
        for key, (image, target) in enumerate(zip(drawn, classes, strict=True)):
            writer.add(key, members(encode_image(image, "raw", 95), target, TARGETS["classification"], "raw"))
    images, targets = read(folder, manifest, list(range(20)))
    assert targets.tolist() == classes
    np.testing.assert_array_equal(images, drawn)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_only_the_samples_that_are_asked_for_have_to_be_sound(tmp_path: Path, task: str) -> None:
    manifest = write_raw(tmp_path / "shards", task)
    shard = tmp_path / "shards/train-000000.tar"
    content = bytearray(shard.read_bytes())
    for number in set(range(20)) - {0, 1, 4, 17}:
        content[number * STRIDE : (number + 1) * STRIDE] = b"\xff" * STRIDE
    shard.write_bytes(content)
    images, targets = read(tmp_path / "shards", manifest, [4, 17])
    drawn = draw(task, 50, 0)
    np.testing.assert_array_equal(images, drawn[0][[4, 17]])
    np.testing.assert_array_equal(targets, drawn[1][[4, 17]])


@pytest.mark.parametrize(
    ("at", "written", "message"),
    [
        (0, b"\0" * STRIDE, "5 samples, the manifest says 20"),
        (0, b"\xff" * 100, "no tar header at byte 10240"),
        (124, b"not octal", "no tar header at byte 10240"),
        (124, b"00000777777\0", "cut short"),
        (0, b"%019d" % 4, "not a shard of this manifest"),
        (156, b"2", "not a shard of this manifest"),
        (512, b"\x94NUMPY", "not a shard of this manifest"),
        (512 + 21, b"|i1", "not a shard of this manifest"),
        (1024 + 512, b"3", "class 3, the manifest has 0 to 2"),
        (1024 + 512, b"x", "not a shard of this manifest"),
    ],
)
def test_damage_to_one_sample_is_one_line(tmp_path: Path, at: int, written: bytes, message: str) -> None:
    manifest = write_raw(tmp_path / "shards")
    shard = tmp_path / "shards/train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[5 * STRIDE + at : 5 * STRIDE + at + len(written)] = written
    shard.write_bytes(content)
    with pytest.raises(UserError, match=rf"train-000000\.tar: .*{message}.*dvc repro") as raised:
        read(tmp_path / "shards", manifest, [4, 5, 6])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: shard.unlink(), "missing"),
        (lambda shard: shard.write_bytes(b""), "0 samples, the manifest says 20"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[: 7 * STRIDE + 700]), "cut short"),
        (
            lambda shard: shard.write_bytes(shard.read_bytes()[: 7 * STRIDE]),
            "7 samples, the manifest says 20",
        ),
        (
            lambda shard: shard.write_bytes(shard.read_bytes()[: 20 * STRIDE] + shard.read_bytes()),
            "40 samples, the manifest says 20",
        ),
        (lambda shard: shard.write_bytes(os.urandom(40_000)), "no tar header"),
    ],
)
def test_a_shard_that_is_not_whole_is_one_line(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    manifest = write_raw(tmp_path / "shards")
    damage(tmp_path / "shards/train-000000.tar")
    with pytest.raises(UserError, match=rf"train-000000\.tar: {message}"):
        read(tmp_path / "shards", manifest, [0, 4])


def photographs(folder: Path, samples: int, per_shard: int) -> Manifest:
    """Raw shards of 64x64 noise as this project writes them, on the disk and out of the system's cache."""
    like = write_shards(folder)
    kind, shards = TARGETS["classification"], []
    images = np.random.default_rng(0).integers(0, 256, (per_shard, 64, 64, 3), dtype=np.uint8)
    for start in range(0, samples, per_shard):
        name = f"train-{start // per_shard:06d}.tar"
        with ShardWriter(folder / name) as writer:
            for key, image in enumerate(images, start):
                writer.add(key, members(encode_image(image, "raw", 95), key % 3, kind, "raw"))
        shards.append(writer.shard(name))
    split = Split(samples=samples, shards=shards, histogram=[0, 0, 0])
    manifest = like.model_copy(update={"size": (64, 64), "splits": {"train": split, "val": split}})
    (folder / FILE_NAME).write_text(manifest.model_dump_json())
    return manifest


def forget(folder: Path) -> None:
    """Have the system drop what it holds of these files, as on another machine."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_from_disk() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["read_bytes"])


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux reads from the disk")
@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_on_machines_of_their_own_read_the_data_once_between_them(
    tmp_path: Path, world_size: int
) -> None:
    folder = tmp_path / "shards"
    manifest = photographs(folder, 1024, 512)
    whole = sum(shard.bytes for shard in manifest.split("train").shards)
    forget(folder)
    before = bytes_from_disk()
    for shard in manifest.split("train").shards:
        hashlib.sha256((folder / shard.name).read_bytes())
    if bytes_from_disk() - before < whole:
        pytest.skip("these files do not lie on a disk that Linux counts")
    for split in ("train", "val"):  # what Python imports at the first batch lies on the disk too
        next(iter(evaluation_batches(folder, manifest, split, 64, 0, 1)))
    next(StreamLoader(SampleOrder((512, 512), 64, 0, window=512), folder, manifest).epoch(0))
    training = validation = 0
    for rank in range(world_size):
        forget(folder)
        plan = SampleOrder((512, 512), 64, 0, rank, world_size, window=512)
        before = bytes_from_disk()
        assert (
            sum(len(batch.image) for batch in StreamLoader(plan, folder, manifest).epoch(0))
            == 1024 // world_size
        )
        training += bytes_from_disk() - before
        forget(folder)
        before = bytes_from_disk()
        batches = evaluation_batches(folder, manifest, "val", 64, rank, world_size)
        assert sum(len(batch.image) for batch in batches) == 1024 // world_size
        validation += bytes_from_disk() - before
    assert whole * 0.9 < training < 1.2 * whole
    assert whole * 0.9 < validation < 1.2 * whole
