"""Streaming gives the batches of memory, holding little, from here or from an object store."""

from __future__ import annotations

import bisect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.storage import Storage
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.loading.memory import MemoryLoader, load_samples
from pipeline.data.loading.open_loader import open_loader
from pipeline.data.loading.order import SampleOrder
from pipeline.data.loading.streaming import StreamLoader
from pipeline.data.shards import node_cache
from pipeline.data.shards.layout import Encoding
from pipeline.data.shards.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.data.shards.reader import read_classes
from pipeline.params import Params
from tests.pipeline.toy import toy_params, write_shards

SAMPLES = 177  # nine shards, the last of 17; twelve batches of 16, the last of 1


def loaders(
    folder: Path, manifest: Manifest, rank: int = 0, world_size: int = 1, window: int = 40, **options: Any
) -> tuple[StreamLoader, MemoryLoader]:
    shards = tuple(shard.samples for shard in manifest.split("train").shards)
    plan = SampleOrder(shards, 16, 3, rank, world_size, window)
    return (
        StreamLoader(plan, folder, manifest, **options),
        MemoryLoader(plan, load_samples(folder, manifest, "train")),
    )


def equal(streamed: Iterator[Batch], held: Iterator[Batch]) -> int:
    """How many batches there are; all are equal."""
    pairs = list(zip(streamed, held, strict=True))
    for one, other in pairs:
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.target, other.target)
    return len(pairs)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "shards"
    return folder, write_shards(folder, counts={"train": SAMPLES, "val": 21})


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_streaming_gives_the_batches_of_memory(tmp_path: Path, task: str, encoding: Encoding) -> None:
    manifest = write_shards(tmp_path / "shards", task, encoding, {"train": SAMPLES, "val": 1})
    for epoch in range(2):
        stream, memory = loaders(tmp_path / "shards", manifest, workers=3)
        assert equal(stream.epoch(epoch), memory.epoch(epoch)) == 12


def test_balanced_draws_are_those_of_memory(shards: tuple[Path, Manifest]) -> None:
    folder, manifest = shards
    counts = tuple(shard.samples for shard in manifest.split("train").shards)
    classes = np.minimum(read_classes(folder, manifest, "train"), 1)
    plan = SampleOrder(counts, 16, 3, window=40, classes=classes)
    seen: list[list[int]] = [[], []]

    def noted(which: int) -> Callable[[Batch, int, torch.Tensor], Batch]:
        def note(batch: Batch, epoch: int, numbers: torch.Tensor) -> Batch:  # noqa: ARG001
            seen[which].extend(numbers.tolist())
            return batch

        return note

    stream = StreamLoader(plan, folder, manifest, augment=noted(0))
    memory = MemoryLoader(plan, load_samples(folder, manifest, "train"), augment=noted(1))
    assert equal(stream.epoch(0), memory.epoch(0)) == 12
    assert seen[0] == seen[1]
    assert max(seen[0]) >= SAMPLES, "some are drawn again"


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("first", [0, 5, 11, 12])
def test_each_rank_takes_its_part_from_any_batch_on(
    shards: tuple[Path, Manifest], world_size: int, first: int
) -> None:
    for rank in range(world_size):
        stream, memory = loaders(*shards, rank=rank, world_size=world_size)
        assert equal(stream.epoch(1, first), memory.epoch(1, first)) == 12 - first


@pytest.mark.parametrize("window", [1, 21, 1000])
def test_batches_larger_and_smaller_than_a_window(shards: tuple[Path, Manifest], window: int) -> None:
    stream, memory = loaders(*shards, window=window)
    assert equal(stream.epoch(0), memory.epoch(0)) == 12


def test_no_more_than_two_windows_are_held(
    shards: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted whenever a read begins, while the training is held up in the window before and keeps all batches."""
    stream, _ = loaders(*shards, window=20)
    ends = list(itertools.accumulate(len(order) for _, order in stream.plan.windows(0)))
    begun = [threading.Event() for _ in ends]
    pixels: list[weakref.ref[Any]] = []
    held: list[int] = []
    read: Callable[..., tuple[torch.Tensor, Batch]] = StreamLoader._read

    def watched(self: StreamLoader, window: tuple[list[int], torch.Tensor]) -> tuple[torch.Tensor, Batch]:
        # With the one that is about to be read.
        held.append(1 + sum(array() is not None for array in pixels))
        begun[len(pixels)].set()
        numbers, batch = read(self, window)
        # An array lives as long as any tensor that shares its memory, a view as well.
        array = batch.image.numpy().copy()
        pixels.append(weakref.ref(array))
        return numbers, Batch(torch.from_numpy(array), batch.target)

    monkeypatch.setattr(StreamLoader, "_read", watched)
    batches: list[Batch] = []
    for batch in stream.epoch(0):
        batches.append(batch)
        last = sum(len(batch.image) for batch in batches) - 1
        for event in begun[: bisect.bisect_right(ends, last) + 2]:
            assert event.wait(60)
    assert held == [1] + [2] * 7


def test_an_epoch_left_in_the_middle_leaves_no_thread(shards: tuple[Path, Manifest]) -> None:
    before = threading.active_count()
    stream, _ = loaders(*shards, window=20)
    epoch = stream.epoch(0)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def move_to_store(folder: Path, manifest: Manifest, store: str) -> Manifest:
    """The shards in an object store, the manifest alone here."""
    files = fsspec.filesystem("memory")
    for split in manifest.splits.values():
        for shard in split.shards:
            files.pipe_file(f"/{store}/{shard.name}", (folder / shard.name).read_bytes())
            (folder / shard.name).unlink()
    moved = manifest.model_copy(update={"location": f"memory://{store}"})
    (folder / FILE_NAME).write_text(moved.model_dump_json())
    return read_manifest(folder)


def test_shards_in_an_object_store(shards: tuple[Path, Manifest]) -> None:
    folder, manifest = shards
    _, memory = loaders(folder, manifest)
    val = list(evaluation_batches(folder, manifest, "val", 16))
    remote = move_to_store(folder, manifest, "whole")
    stream, loaded = loaders(folder, remote)
    assert equal(stream.epoch(0), memory.epoch(0)) == 12
    assert equal(loaded.epoch(0), memory.epoch(0)) == 12
    assert equal(evaluation_batches(folder, remote, "val", 16), iter(val)) == 3


def test_a_node_downloads_each_shard_once(
    shards: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four loaders of a rank each at the same time, then another epoch and the validation."""
    folder, manifest = shards
    _, memory = loaders(folder, manifest)
    remote = move_to_store(folder, manifest, "once")
    downloads: list[str] = []
    opening = Storage.opening

    def watched(self: Storage, name: str) -> Any:
        downloads.append(name)
        return opening(self, name)

    monkeypatch.setattr(Storage, "opening", watched)
    plans = [SampleOrder((20,) * 8 + (17,), 16, 3, rank, 4, 40) for rank in range(4)]
    with ThreadPoolExecutor(4) as pool:
        epochs = list(pool.map(lambda plan: list(StreamLoader(plan, folder, remote).epoch(0)), plans))
    for parts, whole in zip(zip(*epochs, strict=True), memory.epoch(0), strict=True):
        assert torch.equal(torch.cat([part.image for part in parts]), whole.image)
    list(StreamLoader(plans[0], folder, remote).epoch(1))
    assert len(list(evaluation_batches(folder, remote, "val", 16))) == 3
    names = [shard.name for split in manifest.splits.values() for shard in split.shards]
    assert sorted(downloads) == sorted(names)


@pytest.mark.parametrize(("shards_that_fit", "left"), [(0, 0), (2, 2), (3, 3)])
def test_the_shards_used_last_are_kept_within_the_limit(
    shards: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, shards_that_fit: int, left: int
) -> None:
    folder, manifest = shards
    _, memory = loaders(folder, manifest)
    remote = move_to_store(folder, manifest, f"limited-{shards_that_fit}")
    cache = node_cache.cache_folder()
    length = manifest.split("train").shards[0].bytes

    def usage(_: Path) -> Any:
        held = sum(path.stat().st_size for path in cache.glob("*.tar"))
        return SimpleNamespace(free=2 * (shards_that_fit * length) - held)

    monkeypatch.setattr("shutil.disk_usage", usage)
    stream = StreamLoader(memory.plan, folder, remote)
    assert equal(stream.epoch(0), memory.epoch(0)) == 12
    kept = {path.stem for path in cache.glob("*.tar")}
    read = [
        manifest.split("train").shards[number].sha256
        for window, _ in stream.plan.windows(0)
        for number in window
    ]
    assert kept == set(read[len(read) - left :])


@pytest.mark.parametrize("damage", [None, b"other bytes"])
def test_a_shard_in_the_store_that_is_not_what_was_written_is_named(
    shards: tuple[Path, Manifest], damage: bytes | None
) -> None:
    folder, manifest = shards
    remote = move_to_store(folder, manifest, "damaged")
    files = fsspec.filesystem("memory")
    if damage is None:
        files.rm_file("/damaged/train-000004.tar")
    else:
        files.pipe_file("/damaged/train-000004.tar", damage)
    plan = SampleOrder(tuple(shard.samples for shard in manifest.split("train").shards), 16, 3, window=20)
    with pytest.raises(
        UserError, match=r"memory://damaged/train-000004\.tar: (missing|not what was written);"
    ):
        list(StreamLoader(plan, folder, remote).epoch(0))


@pytest.mark.parametrize(
    "location", ["pipe:cat /etc/passwd", "zip://a.tar::s3://b", "s3://a::zip://b", "github://x"]
)
def test_a_location_that_is_no_store_is_refused(shards: tuple[Path, Manifest], location: str) -> None:
    folder, manifest = shards
    here = manifest.model_copy(update={"location": location})
    (folder / FILE_NAME).write_text(here.model_dump_json())
    with pytest.raises(UserError, match=r"location.*allowed"):
        read_manifest(folder)


def open_toy(shards: tuple[Path, Manifest], cache: str = "auto", **train: Any) -> Any:
    folder, manifest = shards
    phases = [{"optimizer": "adamw", "epochs": 1}]
    params: Params = toy_params(
        machine={"device": "cpu", "cache": cache}, train={"phases": phases, "batch_size": 16, **train}
    )
    return open_loader(params, manifest, folder, torch.device("cpu"), 0, 1)


def test_auto_streams_what_does_not_fit(
    shards: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_toy(shards), MemoryLoader)
    assert isinstance(open_toy(shards, "stream"), StreamLoader)

    class Memory:
        available = 2 * SAMPLES * (8 * 12 * 3 + 8)  # with the class, int64

    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory)
    assert isinstance(open_toy(shards), StreamLoader)
    Memory.available += 2
    assert isinstance(open_toy(shards), MemoryLoader)


def test_where_the_split_lies_changes_no_batch(
    shards: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.loading.open_loader.WINDOW_BYTES", 40 * 8 * 12 * 3)
    recipes: list[list[dict[str, Any]]] = [[], [{"HorizontalFlip": {}}]]
    for augment in recipes:
        stream, memory = (open_toy(shards, cache, augment=augment) for cache in ("stream", "host"))
        assert equal(stream.epoch(0), memory.epoch(0)) == 12
