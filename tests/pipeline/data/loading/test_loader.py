"""Batches from shards that stock webdataset wrote."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.data.loading.batch import Batch, Samples
from pipeline.data.loading.evaluation import evaluation_batch_size, evaluation_batches
from pipeline.data.loading.memory import MemoryLoader, load_samples
from pipeline.data.loading.order import SampleOrder, rank_slice
from pipeline.data.loading.prefetch import prefetch
from pipeline.data.shards.layout import Encoding
from pipeline.data.shards.manifest import FILE_NAME, read_manifest
from pipeline.data.shards.reader import read_classes
from tests.pipeline.toy import draw, write_shards


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_reads_what_stock_webdataset_wrote(tmp_path: Path, task: str, encoding: Encoding) -> None:
    manifest = write_shards(tmp_path / "shards", task, encoding)
    samples = load_samples(tmp_path / "shards", manifest, "train")
    images, targets = draw(task, 50, 0)
    np.testing.assert_array_equal(samples.images.numpy(), images)
    np.testing.assert_array_equal(samples.targets.numpy(), targets)


def toy_loader(batch_size: int = 16, seed: int = 3, rank: int = 0, world_size: int = 1) -> MemoryLoader:
    """Fifty samples whose target is their own number."""
    numbers = torch.arange(50)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    return MemoryLoader(SampleOrder((50,), batch_size, seed, rank, world_size), Samples(images, numbers))


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own() -> None:
    epochs = [torch.cat([batch.target for batch in toy_loader().epoch(epoch)]) for epoch in (0, 1, 0)]
    assert sorted(epochs[0].tolist()) == list(range(50))
    assert epochs[0].tolist() == epochs[2].tolist() != epochs[1].tolist()
    other_seed = torch.cat([batch.target for batch in toy_loader(seed=4).epoch(0)])
    assert other_seed.tolist() != epochs[0].tolist()


def test_a_plan_of_windows_takes_whole_shards_and_every_sample_once() -> None:
    plan = SampleOrder((20, 20, 10, 7, 3), 16, seed=3, window=25)
    firsts = [0, 20, 40, 50, 57, 60]
    for epoch in range(3):
        windows = list(plan.windows(epoch))
        assert sorted(shard for shards, _ in windows for shard in shards) == list(range(5))
        for shards, order in windows:
            inside = [number for shard in shards for number in range(firsts[shard], firsts[shard + 1])]
            assert sorted(order.tolist()) == sorted(inside)
            assert order.tolist() != sorted(inside)
        assert all(len(order) >= 25 for _, order in windows[:-1])
        assert torch.cat(list(plan.batches(epoch))).sort().values.tolist() == list(range(60))
    assert len({str(list(plan.windows(epoch))) for epoch in range(9)}) == 9


def test_image_and_target_stay_together() -> None:
    for batch in toy_loader().epoch(0):
        assert batch.image[:, 0, 0, 0].tolist() == batch.target.tolist()


def test_an_epoch_goes_on_from_its_middle() -> None:
    whole = [batch.target.tolist() for batch in toy_loader().epoch(2)]
    assert [batch.target.tolist() for batch in toy_loader().epoch(2, first_batch=2)] == whole[2:]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_each_batch_of_one_process(world_size: int) -> None:
    one = [batch.target.tolist() for batch in toy_loader().epoch(1)]
    ranks = [list(toy_loader(rank=rank, world_size=world_size).epoch(1)) for rank in range(world_size)]
    for number, batch in enumerate(one):
        assert [target for rank in ranks for target in rank[number].target.tolist()] == batch


@pytest.mark.parametrize("length", [0, 1, 2, 7, 16])
def test_rank_slices_are_disjoint_complete_and_even(length: int) -> None:
    parts = [range(length)[rank_slice(length, rank, 3)] for rank in range(3)]
    assert [number for part in parts for number in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_every_sample_once(tmp_path: Path, world_size: int) -> None:
    manifest = write_shards(tmp_path / "shards", counts={"train": 50, "val": 41})
    batches = [
        batch
        for rank in range(world_size)
        for batch in evaluation_batches(tmp_path / "shards", manifest, "val", 16, rank, world_size)
    ]
    images, _ = draw("classification", 41, 1)
    seen = sorted(batch_image.numpy().tobytes() for batch in batches for batch_image in batch.image)
    assert seen == sorted(image.tobytes() for image in images)
    assert max(len(batch.image) for batch in batches) <= 16


def test_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    shard = tmp_path / "shards/train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-20_000])
    with pytest.raises(UserError, match=r"train-000001\.tar: .* bytes, the manifest says .*dvc repro"):
        read_manifest(tmp_path / "shards")


def test_a_shard_that_lost_samples_but_not_length_is_named(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards")
    shard = tmp_path / "shards/train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: 2 * 4 * 512] + bytes(len(content) - 2 * 4 * 512))
    with pytest.raises(UserError, match=r"train-000001\.tar: \d+ samples, the manifest says 20"):
        load_samples(tmp_path / "shards", manifest, "train")


def test_a_folder_without_its_manifest_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    (tmp_path / "shards" / FILE_NAME).unlink()
    with pytest.raises(UserError, match=r"no manifest\.json, so the shards are not whole"):
        read_manifest(tmp_path / "shards")


def test_another_tasks_shards_are_refused(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards").model_copy(update={"task": "segmentation"})
    with pytest.raises(UserError, match="not a shard of this manifest"):
        load_samples(tmp_path / "shards", manifest, "train")


def test_nothing_pickled_is_loaded(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards", counts={"train": 1, "val": 1})
    import io
    import tarfile

    content = io.BytesIO()
    np.save(content, np.array([{"code": "would run"}], dtype=object), allow_pickle=True)
    shard = tmp_path / "shards/train-000000.tar"
    with tarfile.open(shard, "w") as tar:
        for name, data in (("000000000.npy", content.getvalue()), ("000000000.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match="not a shard of this manifest"):
        load_samples(tmp_path / "shards", manifest, "train")


def batches_of(count: int) -> list[Batch]:
    return [Batch(torch.full((2, 4, 4, 3), i, dtype=torch.uint8), torch.tensor([i, i])) for i in range(count)]


def test_batches_come_to_any_device() -> None:
    """`meta` stands for one that is neither the host nor a GPU of NVIDIA's, as Apple's."""
    for device in (torch.device("cpu"), torch.device("meta")):
        arrived = list(prefetch(iter(batches_of(3)), device))
        assert [part.device for batch in arrived for part in batch] == [device] * 6


class Streams:
    """A GPU's streams, which take note of what happens; an event is the number of the batch that was sent."""

    def __init__(self) -> None:
        self.sent = 0
        self.log: list[tuple[str, int]] = []

    def record_event(self) -> int:
        self.log.append(("sent", self.sent))
        self.sent += 1
        return self.sent - 1

    def wait_event(self, number: int) -> None:
        self.log.append(("awaited", number))


def test_to_a_gpu_one_batch_travels_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams()
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: streams)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: streams)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr("pipeline.data.loading.prefetch.upload", lambda tensor, _: tensor)
    for number, batch in enumerate(prefetch(iter(batches_of(4)), torch.device("cuda"))):
        assert batch.target.tolist() == [number, number]
        assert streams.sent <= number + 2
        assert ("awaited", number) in streams.log
    order = [streams.log.index((what, number)) for number in range(4) for what in ("sent", "awaited")]
    assert all(sent < awaited for sent, awaited in zip(order[::2], order[1::2], strict=True))
    assert len(streams.log) == 8


def test_what_lies_on_the_gpu_is_not_sent_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_stream(_: object) -> None:
        raise AssertionError("a stream for batches that are there already")

    monkeypatch.setattr(torch.cuda, "Stream", no_stream)
    monkeypatch.setattr("pipeline.data.loading.prefetch.upload", lambda tensor, _: tensor)
    there: list[Any] = [Batch(SimpleNamespace(is_cuda=True), number) for number in range(3)]  # type: ignore[arg-type]
    assert [batch.target for batch in prefetch(iter(there), torch.device("cuda"))] == [0, 1, 2]


def test_the_order_of_an_epoch_is_uploaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[int] = []

    def watched(tensor: torch.Tensor, _: torch.device) -> torch.Tensor:
        uploads.append(len(tensor))
        return tensor

    monkeypatch.setattr("pipeline.data.loading.memory.upload", watched)
    assert len(list(toy_loader(rank=1, world_size=2).epoch(0))) == 4
    assert uploads == [25]


@pytest.mark.parametrize(
    ("batch_size", "world_size", "accumulate", "images"),
    [(64, 1, 8, 8), (64, 4, 2, 8), (256, 1, 1, 256), (4, 8, 1, 1)],
)
def test_validation_works_on_as_many_images_as_training(
    batch_size: int, world_size: int, accumulate: int, images: int
) -> None:
    assert evaluation_batch_size(batch_size, world_size, accumulate) == images


RARE = np.array([0] * 30 + [1] * 15 + [2] * 5)


@pytest.mark.parametrize("epoch", [0, 1])
def test_balanced_epochs_draw_all_classes_alike(epoch: int) -> None:
    plan = SampleOrder((20, 20, 10), 8, 3, classes=RARE)
    drawn = torch.cat(list(plan.batches(epoch)))
    assert len(drawn) == 50
    assert len(set(drawn.tolist())) == 50, "each draw has a number of its own, and an augmentation"
    counts = np.bincount(RARE[drawn.numpy() % 50])
    assert sorted(counts.tolist()) == [16, 17, 17]
    each = np.bincount(drawn.numpy() % 50, minlength=50)
    assert set(each[RARE == 0].tolist()) == {0, 1}
    assert set(each[RARE == 1].tolist()) <= {1, 2}
    assert set(each[RARE == 2].tolist()) <= {3, 4}


def test_balanced_epochs_are_the_same_over_ranks_and_from_their_middle_on() -> None:
    whole = list(SampleOrder((50,), 8, 3, classes=RARE).batches(2))
    ranks = [list(SampleOrder((50,), 8, 3, rank, 3, classes=RARE).batches(2)) for rank in range(3)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(batch, torch.cat(parts))
    later = list(SampleOrder((50,), 8, 3, classes=RARE).batches(2, 4))
    assert all(torch.equal(*pair) for pair in zip(whole[4:], later, strict=True))
    assert not torch.equal(whole[0], next(SampleOrder((50,), 8, 4, classes=RARE).batches(2)))


def test_each_window_is_balanced_by_itself() -> None:
    plan = SampleOrder((10,) * 5, 8, 3, window=20, classes=np.arange(50) % 4 // 3)
    for _, order in plan.windows(0):
        counts = np.bincount(order.numpy() % 50 % 4 // 3)
        assert abs(counts[0] - counts[1]) <= 1


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_the_classes_of_a_split_are_those_of_its_samples(tmp_path: Path, encoding: Encoding) -> None:
    manifest = write_shards(tmp_path / "shards", "classification", encoding)
    samples = load_samples(tmp_path / "shards", manifest, "train")
    found = read_classes(tmp_path / "shards", manifest, "train")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, samples.targets.numpy())
