"""From raw files to shards: what comes out, that it is always the same, and what goes wrong in real life."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.imaging.resize import box_resize
from pipeline.data.raw import blobs
from pipeline.data.raw.fingerprint import fingerprint_file
from pipeline.data.shards.manifest import Manifest, read_manifest
from tests.pipeline.workshop import Workshop, encoded, noise, png


def stored(workshop: Workshop, manifest: Manifest, split: str = "train", decoder: str = "rgb8") -> list[Any]:
    """The split's samples as stock webdataset decodes them."""
    folder = workshop.shards(manifest.size)
    urls = [str(folder / shard.name) for shard in manifest.splits[split].shards]
    return list(webdataset.WebDataset(urls, shardshuffle=False).decode(decoder))


def test_images_and_classes_are_those_of_the_raw_files(workshop: Workshop) -> None:
    workshop.classes(names="dog cat", images=4)
    manifest = workshop.prepare(samples_per_shard=3)[0]
    assert manifest.class_names == ["cat", "dog"]
    shards = [shard.samples for shard in manifest.splits["train"].shards]
    assert sum(shards) == 8
    assert max(shards) <= 3
    assert manifest.splits["train"].histogram == [4, 4]
    want = {}
    for path in workshop.raw.glob("train/*/*"):
        image = box_resize(np.asarray(Image.open(path)), (8, 8))
        want[image.tobytes()] = manifest.class_names.index(path.parent.name)
    got = {sample["npy"].tobytes(): sample["cls"] for sample in stored(workshop, manifest)}
    assert got == want
    assert read_manifest(workshop.shards()) == manifest


def test_train_classes_are_mixed_over_shards(workshop: Workshop) -> None:
    workshop.classes(images=32, splits="train")
    workshop.classes(images=1, splits="val")
    manifest = workshop.prepare(samples_per_shard=16)[0]
    labels = [sample["cls"] for sample in stored(workshop, manifest)]
    start = 0
    for shard in manifest.splits["train"].shards:
        assert 0 < sum(labels[start : start + shard.samples]) < shard.samples
        start += shard.samples


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_agree_with_torch_on_the_decoded_shards(
    workshop: Workshop, encoding: str, channels: int
) -> None:
    workshop.classes(images=8)
    manifest = workshop.prepare(encoding=encoding, channels=channels, quality=60, sizes=[[16, 16]])[0]
    key = {"raw": "npy", "jpeg": "jpg"}.get(encoding, encoding)
    images = [torch.from_numpy(sample[key][..., :channels].copy()) for sample in stored(workshop, manifest)]
    pixels = torch.stack(images).double().reshape(-1, channels) / 255
    np.testing.assert_allclose(manifest.mean, pixels.mean(0), atol=1e-4)
    np.testing.assert_allclose(manifest.std, pixels.std(0, correction=0), atol=1e-4)


def test_sizes_of_one_pass_are_those_of_passes_of_their_own(workshop: Workshop) -> None:
    workshop.classes()
    workshop.prepare(sizes=[[8, 8], [5, 9]])
    together = workshop.snapshot()
    apart: dict[str, bytes] = {}
    for size in ([8, 8], [5, 9]):
        workshop.prepare(sizes=[size])
        apart |= workshop.snapshot()
    assert together == apart


def test_any_number_of_workers_gives_the_same_bytes(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.prepare.preparation.SMALL", 0)
    workshop.classes(images=8)
    snapshots = []
    for workers in (1, 3):
        snapshots.append(workshop.fresh(workshop.params(workers=workers, samples_per_shard=2)))
    assert snapshots[0] == snapshots[1]
    assert len(snapshots[0]) > 16
    assert not list(Path(".work/prepare").glob("*/"))


def test_segmentation_counts_pixels_and_ignores_the_rest(workshop: Workshop) -> None:
    mask = np.array([[7, 7, 26, 0], [7, 7, 26, 0]], np.uint8)  # road, car, unlabeled
    for split in ("train", "val"):
        workshop.write(f"leftImg8bit/{split}/x/x_0_0_leftImg8bit.png", png(noise(2, 4)))
        workshop.write(f"gtFine/{split}/x/x_0_0_gtFine_labelIds.png", png(mask))
    manifest = workshop.prepare(reader="cityscapes", sizes=[[4, 8], [2, 4]])[0]
    train = manifest.splits["train"]
    assert (train.histogram[0], train.histogram[13], train.ignored_pixels) == (16, 8, 8)
    assert sum(train.histogram) == 24
    sample = stored(workshop, manifest)[0]
    assert sample["mask.npy"].tolist() == [[0, 0, 0, 0, 13, 13, 255, 255]] * 4
    assert manifest.palette is not None
    assert manifest.palette[13] == (0, 0, 142)


def test_the_raw_sizes_are_told(workshop: Workshop) -> None:
    workshop.classes(names="cat", images=1)
    workshop.write("train/cat/big.png", png(noise(30, 40)))
    train = workshop.prepare()[0].splits["train"]
    assert train.raw_height is not None
    assert train.raw_width is not None
    assert (train.raw_height.min, train.raw_height.max, train.raw_height.total) == (10, 30, 40)
    assert (train.raw_width.min, train.raw_width.max, train.raw_width.total) == (12, 40, 52)
    assert train.raw_bytes == sum(path.stat().st_size for path in workshop.raw.glob("train/*/*"))


def test_names_may_have_spaces_and_accents(workshop: Workshop) -> None:
    """macOS spells é as two characters: train and val may differ in it."""
    image = png(noise(9, 9))
    for name in ("train/caf\u00e9 cr\u00e8me/ä 1.png", "val/cafe\u0301 cre\u0300me/ü.png", "train/ß/ö.png"):
        workshop.write(name, image)
    manifest = workshop.prepare()[0]
    assert manifest.class_names == ["café crème", "ß"]
    assert manifest.splits["val"].histogram == [1, 0]


def test_one_more_image_changes_only_its_dataset(workshop: Workshop) -> None:
    workshop.classes()
    workshop.prepare()
    before = fingerprint_file("own").read_bytes()
    workshop.prepare()
    assert fingerprint_file("own").read_bytes() == before
    workshop.write("train/cat/new.png", png(noise(9, 9)))
    assert workshop.prepare()[0].splits["train"].samples == 7
    assert fingerprint_file("own").read_bytes() != before


def test_changed_raw_files_are_noticed_when_the_fingerprint_is_old(workshop: Workshop) -> None:
    from pipeline.prepare.preparation import prepare

    workshop.classes()
    workshop.prepare()
    workshop.write("train/cat/new.png", png(noise(9, 9)))
    with pytest.raises(UserError, match="raw files changed since they were listed"):
        prepare("own", workshop.params())


# Bad input: one line that names the file; what is prepared already stays.


def refused(workshop: Workshop, match: str, **dataset: Any) -> None:
    before = workshop.snapshot() if Path("data/shards/own").exists() else {}
    with pytest.raises(UserError, match=match) as error:
        workshop.prepare(**dataset)
    assert "\n" not in str(error.value)
    assert (workshop.snapshot() if before else {}) == before


def test_a_root_that_is_missing_or_empty(workshop: Workshop) -> None:
    refused(workshop, "raw is empty; put train/<class>/<image>")
    workshop.raw.rmdir()
    refused(workshop, "no folder .*raw; put train/<class>/<image>.* or set machine.roots.own")
    refused(workshop, "source: got 'cifar11' .did you mean 'cifar10'", source="cifar11")


def test_corrupt_images_are_left_out_up_to_the_limit(workshop: Workshop) -> None:
    workshop.classes(images=5)
    workshop.prepare()
    whole = encoded(Image.fromarray(noise(40, 40)), "JPEG")
    workshop.write("train/cat/cut.jpg", whole[: len(whole) // 2])
    workshop.write("val/dog/text.jpg", b"no image")
    refused(workshop, r"1 corrupt sample\(s\), first train/cat/cut.jpg: .*max_corrupt")
    refused(workshop, r"2 corrupt sample\(s\), first train/cat/cut.jpg", max_corrupt=1)
    manifest = workshop.prepare(max_corrupt=2, samples_per_shard=4)[0]
    train = manifest.splits["train"]
    assert [item.name for item in train.left_out] == ["train/cat/cut.jpg"]
    assert [item.name for item in manifest.splits["val"].left_out] == ["val/dog/text.jpg"]
    assert train.samples == 10
    assert sum(shard.samples for shard in train.shards) == 10
    keys = [sample["__key__"] for sample in stored(workshop, manifest)]
    assert len(set(keys)) == 10
    assert keys == sorted(keys)


def test_names_that_are_not_utf8(workshop: Workshop) -> None:
    """Linux lets a file's name be any bytes."""
    workshop.classes()
    workshop.write(os.fsdecode(b"train/cat/\xff.png"), png(noise(9, 9)))
    workshop.write(os.fsdecode(b"train/cat/\xfe.jp\xff"), b"no image by its name")
    workshop.write(os.fsdecode(b"train/cat/bad\xff.png"), b"no image")
    refused(workshop, r"1 corrupt sample\(s\), first train/cat/bad.udcff.png: ")
    train = workshop.prepare(max_corrupt=1)[0].splits["train"]
    assert train.samples == 7
    assert [item.name for item in train.left_out] == [r"train/cat/bad\udcff.png"]
    workshop.write(os.fsdecode(b"train/\xff/1.png"), png(noise(9, 9)))
    refused(workshop, "class .*udcff.*: its name is not UTF-8; rename", max_corrupt=1)


def test_an_unreadable_image_is_named(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser may read everything, so the refusal is played."""
    read_range = blobs._read_range

    def refuse(file: str, offset: int, length: int) -> bytes:
        if file.endswith("train/cat/0.png"):
            raise PermissionError(errno.EACCES, "Permission denied", file)
        return read_range(file, offset, length)

    workshop.classes()
    monkeypatch.setattr(blobs, "_read_range", refuse)
    refused(workshop, "train/cat/0.png: .*Permission denied")


def test_a_class_folder_with_no_image(workshop: Workshop) -> None:
    workshop.classes()
    (workshop.raw / "train/bird").mkdir()
    refused(workshop, "train/bird: no image in this class folder")
    workshop.write("train/bird/readme.txt", b"x")
    refused(workshop, "train/bird: no image in this class folder")


def test_a_val_class_that_train_lacks(workshop: Workshop) -> None:
    workshop.classes()
    workshop.write("val/bird/1.png", png(noise(9, 9)))
    refused(workshop, "val: class 'bird' is not among the 2 classes of train")


def cityscapes_frame(workshop: Workshop, frame: str, mask: bytes | None, split: str = "train") -> None:
    workshop.write(f"leftImg8bit/{split}/x/{frame}_leftImg8bit.png", png(noise(4, 6)))
    if mask is not None:
        workshop.write(f"gtFine/{split}/x/{frame}_gtFine_labelIds.png", mask)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (None, "no mask gtFine/train/x/bad_gtFine_labelIds.png"),
        (png(np.full((4, 5), 7, np.uint8)), "mask is 5x4 pixels, its image 6x4"),
        (png(np.full((4, 6), 34, np.uint8)), "mask has id 34, which does not exist"),
        (png(noise(4, 6)), "mask is a RGB image, expected 8-bit ids"),
        (b"no image", "mask is not an image"),
    ],
)
def test_masks_that_do_not_fit(workshop: Workshop, mask: bytes | None, reason: str) -> None:
    for split in ("train", "val"):
        cityscapes_frame(workshop, "good", png(np.full((4, 6), 7, np.uint8)), split)
    cityscapes_frame(workshop, "bad", mask)
    refused(workshop, f"first train/x/bad_leftImg8bit.png: {reason}", reader="cityscapes")
    train = workshop.prepare(reader="cityscapes", max_corrupt=1)[0].splits["train"]
    assert train.samples == 1
    assert [item.reason.startswith(reason) for item in train.left_out] == [True]


def test_all_samples_corrupt(workshop: Workshop) -> None:
    workshop.classes()
    for path in workshop.raw.glob("train/*/*"):
        path.write_bytes(b"x")
    refused(workshop, "train: every sample is corrupt", max_corrupt=100)


def test_a_shard_folder_without_its_manifest_or_with_a_short_shard(workshop: Workshop) -> None:
    workshop.classes()
    manifest = workshop.prepare()[0]
    shard = workshop.shards() / manifest.splits["train"].shards[0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    with pytest.raises(UserError, match=f"{len(whole) - 512} bytes, the manifest says {len(whole)}"):
        read_manifest(workshop.shards())
    (workshop.shards() / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no manifest.json, so the shards are not whole"):
        read_manifest(workshop.shards())


def test_a_missing_or_broken_fingerprint(workshop: Workshop) -> None:
    from pipeline.prepare.preparation import prepare

    workshop.classes()
    with pytest.raises(UserError, match=r"own.json: no such file; run `uv run dvc repro`"):
        prepare("own", workshop.params())
    fingerprint_file("own").parent.mkdir(parents=True)
    fingerprint_file("own").write_text(json.dumps({"files": 1}))
    with pytest.raises(UserError, match=r"own.json: not a fingerprint"):
        prepare("own", workshop.params())


def test_shards_of_an_earlier_configuration_are_replaced(workshop: Workshop) -> None:
    workshop.classes()
    workshop.prepare(samples_per_shard=1)
    workshop.prepare(samples_per_shard=100)
    names = ["_info.json", "manifest.json", "train-000000.tar", "val-000000.tar"]
    assert sorted(workshop.snapshot()) == [f"8x8/{name}" for name in names]
    shutil.rmtree("data/shards/own")
