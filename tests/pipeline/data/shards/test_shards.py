"""The shards on disk, checked against tarfile, numpy and stock webdataset."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from pipeline.core.storage import Storage
from pipeline.data.shards.encoding import encode_image, members
from pipeline.data.shards.targets import TARGETS
from pipeline.data.shards.writer import ShardWriter
from tests.pipeline.workshop import Workshop, noise


def write(path: Path, encoding: str, channels: int = 3, segmentation: bool = False) -> list[tuple[Any, Any]]:
    samples = []
    kind = TARGETS["segmentation" if segmentation else "classification"]
    with ShardWriter(path) as writer:
        for key in range(12):
            image = noise(6, 10, channels, seed=key).reshape(6, 10, channels)
            target: Any = noise(6, 10, 1, seed=key) if segmentation else key * 100
            writer.add(key, members(encode_image(image, encoding, 95), target, kind, encoding))
            samples.append((image, target))
    shard = writer.shard()
    assert shard.bytes == path.stat().st_size
    assert shard.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return samples


@pytest.mark.parametrize("segmentation", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_stock_webdataset_reads_what_was_written(
    tmp_path: Path, encoding: str, channels: int, segmentation: bool
) -> None:
    """Three lines, without this project."""
    samples = write(tmp_path / "train-000000.tar", encoding, channels, segmentation)
    dataset = webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False).decode("rgb8")
    image_key, mask_key = ("npy", "mask.npy") if encoding == "raw" else ("png", "mask.png")
    for key, (sample, (image, target)) in enumerate(zip(dataset, samples, strict=True)):
        assert sample["__key__"] == f"{key:019d}"
        np.testing.assert_array_equal(sample[image_key][..., :channels], image)
        if segmentation:
            mask = sample[mask_key]
            np.testing.assert_array_equal(mask[..., 0] if mask.ndim == 3 else mask, target)
        else:
            assert sample["cls"] == target


@pytest.mark.parametrize("encoding", ["jpeg", "webp"])
def test_lossy_images_come_back_nearly(encoding: str) -> None:
    image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encode_image(image, encoding, 95))).convert("RGB"))
    assert np.abs(decoded.astype(int) - image).max() <= 4


@pytest.mark.parametrize("segmentation", [False, True])
def test_a_raw_shard_can_be_mapped_by_arithmetic(tmp_path: Path, segmentation: bool) -> None:
    path = tmp_path / "train-000000.tar"
    samples = write(path, "raw", 3, segmentation)
    # Headers of 512 bytes, arrays of 128 + 180 and, for masks, 128 + 60 bytes; a class takes a block too.
    stride = 512 + 512 + 512 + 512
    bytes_ = np.memmap(path, np.uint8, "r")
    for i, (image, _) in enumerate(samples):
        start = i * stride + 640
        np.testing.assert_array_equal(bytes_[start : start + image.size].reshape(image.shape), image)
    assert len(bytes_) == 12 * stride + 1024


def test_members_carry_no_time_and_no_owner(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", "raw")
    with tarfile.open(tmp_path / "a.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with storage.writing("folder/whole") as path:
        path.write_bytes(b"x")
        assert not (tmp_path / "folder/whole").exists()
    assert storage.read("folder/whole") == b"x"

    def fail() -> None:
        with storage.writing("folder/half") as path:
            path.write_bytes(b"x")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert storage.names() == ["folder/whole"]


def test_prepared_digits_are_read_by_stock_webdataset(workshop: Workshop) -> None:
    workshop.classes(images=5)
    manifest = workshop.prepare(samples_per_shard=4)[0]
    urls = [str(workshop.shards() / shard.name) for shard in manifest.splits["train"].shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert sorted(sample["cls"] for sample in samples) == [0] * 5 + [1] * 5
    assert {sample["npy"].shape for sample in samples} == {(8, 8, 3)}
