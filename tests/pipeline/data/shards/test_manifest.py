"""A manifest is believed where it fits itself and its shards; all else is refused before anything is allocated."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.loading.memory import load_samples
from pipeline.data.shards.manifest import FILE_NAME, Manifest, Shard, read_manifest
from pipeline.data.shards.reader import ShardReader, empty_samples
from tests.pipeline.toy import write_shards

HEIGHT, WIDTH = 8, 12


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


IMAGE = npy(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def refused(folder: Path, match: str, **changes: Any) -> None:
    """Read the manifest in ``folder`` with ``changes`` by path, ``splits.train.samples`` and so on."""
    values = json.loads((folder / FILE_NAME).read_text())
    for place, value in changes.items():
        *parents, last = place.split("__")
        part = values
        for key in parents:
            part = part[int(key) if isinstance(part, list) else key]
        part[int(last) if isinstance(part, list) else last] = value
    (folder / FILE_NAME).write_text(json.dumps(values))
    with pytest.raises(UserError, match=match) as error:
        read_manifest(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["../a.tar", "/etc/a.tar", "a/b.tar", ".a.tar", "..", "", "a\\b.tar", "a b.tar", "ä"]
)
def test_names_of_shards_are_plain(tmp_path: Path, name: str) -> None:
    write_shards(tmp_path / "x")
    refused(tmp_path / "x", "allowed are plain file names", splits__train__shards__0__name=name)


@pytest.mark.parametrize("samples", [49, 51, 10**12])
def test_a_split_has_the_samples_of_its_shards(tmp_path: Path, samples: int) -> None:
    write_shards(tmp_path / "x")
    refused(
        tmp_path / "x", f"a split of {samples} samples, its shards have 50", splits__train__samples=samples
    )


def test_samples_have_room_in_their_shard(tmp_path: Path) -> None:
    write_shards(tmp_path / "x")
    refused(tmp_path / "x", "1000000000000 samples do not fit", splits__train__shards__0__samples=10**12)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mean": [0.5]}, "mean and std of 1 and 3 channels, not 3"),
        ({"std": [0.0, 0.1, 0.1]}, "std: 0: Input should be greater than 0"),
        ({"std": [float("nan")] * 3}, "std: 0: Input should be"),
        ({"mean": [float("inf")] * 3}, "mean: 0: Input should be"),
        ({"mean": [128.0] * 3}, "mean: 0: Input should be less than or equal to 1"),
        ({"size": [0, 8]}, "size: 0: Input should be greater than 0"),
        ({"class_names": []}, "class_names: List should have at least 1 item"),
        ({"class_names": ["a", "b"]}, "counts of 3 classes, not of 2"),
        ({"channels": 4}, "channels: Input should be 1 or 3"),
        ({"task": "clasification"}, "did you mean 'classification'"),
        ({"splits__train__samples": -1}, "greater than or equal to 0"),
        ({"splits__val__histogram": [0, 0, 0]}, "val: 0 samples counted, there are 21"),
        ({"splits__val__histogram": [-1, 22, 0]}, "greater than or equal to 0"),
        ({"splits__val__ignored_pixels": 7}, "val: 28 samples counted, there are 21"),
        ({"palette": [[0, 0, 0]]}, "1 colours for 3 classes"),
        ({"palette": [[0, 0, 256]] * 3}, "less than or equal to 255"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    write_shards(tmp_path / "x")
    refused(tmp_path / "x", match, **changes)


def test_masks_count_pixels(tmp_path: Path) -> None:
    write_shards(tmp_path / "x", "segmentation")
    read_manifest(tmp_path / "x")
    refused(tmp_path / "x", "pixels counted, there are 4800", splits__train__ignored_pixels=0)


def tar(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(folder: Path, content: bytes, task: str = "classification", samples: int = 1) -> None:
    """Read all of ``content`` as a shard of the toy's manifest."""
    manifest = write_shards(folder / "x", task, counts={"train": 1, "val": 1})
    (folder / "x/own.tar").write_bytes(content)
    shard = Shard(name="own.tar", samples=samples, bytes=len(content), sha256="0")
    images, targets = empty_samples(manifest, samples)
    ShardReader(folder / "x", shard, manifest).read(np.arange(samples), images, targets)


@pytest.mark.parametrize("label", [b"3", b"-1", b"9" * 23, b"9" * 5000, b"", b"1.0", b"a", b"\xff"])
def test_labels_that_do_not_exist_never_leave_the_reader(tmp_path: Path, label: bytes) -> None:
    with pytest.raises(UserError, match=r"own\.tar: not a shard of this manifest"):
        read(tmp_path, tar([("1.npy", IMAGE), ("1.cls", label)]))


@pytest.mark.parametrize(
    "mask",
    [
        npy(np.full((HEIGHT, WIDTH), 3, np.uint8)),
        npy(np.zeros((HEIGHT, WIDTH), np.int64)),
        npy(np.zeros((WIDTH, HEIGHT), np.uint8)),
        npy(np.zeros((HEIGHT, WIDTH, 1), np.uint8)),
    ],
)
def test_masks_that_do_not_fit_never_leave_the_reader(tmp_path: Path, mask: bytes) -> None:
    with pytest.raises(UserError, match=r"own\.tar: not a shard of this manifest"):
        read(tmp_path, tar([("1.npy", IMAGE), ("1.mask.npy", mask)]), "segmentation")


def picture(kind: str, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "member",
    [
        ("1.npy", npy(np.zeros((HEIGHT, WIDTH, 3), np.float32))),
        ("1.npy", npy(np.asfortranarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))),
        ("1.npy", npy(np.zeros((HEIGHT, WIDTH), np.uint8))),
        ("1.npy", IMAGE[:-1]),
        ("1.npy", IMAGE + b"\0"),
        ("1.npy", IMAGE[:40]),
        ("1.npy", npy(np.array([{"an": "object"}], object))),
        ("1.npy", IMAGE.replace(b"(8, 12, 3)", b"(8, 12, 9)")),
        ("1.npy", IMAGE.replace(b"(8, 12, 3)", b"(8, 12,-3)")),
        ("1.png", picture("PNG", 9000, 9)),
        ("1.png", picture("BMP")),
        ("1.png", picture("PNG")[:45]),
        ("1.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 8\n%%EOF\n"),
        ("1.txt", b""),
    ],
)
def test_images_that_do_not_fit_never_leave_the_reader(tmp_path: Path, member: tuple[str, bytes]) -> None:
    with pytest.raises(UserError, match=r"own\.tar: not a shard of this manifest") as error:
        read(tmp_path, tar([member, ("1.cls", b"0")]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [b"-0000001000\0", b"abc", b"0x10", b"\x80" + b"\xff" * 11, b"9"])
def test_sizes_that_are_not_octal_end_the_reading(tmp_path: Path, size: bytes) -> None:
    content = bytearray(tar([("1.npy", IMAGE), ("1.cls", b"0")]))
    content[124:136] = size.ljust(12, b"\0")
    with pytest.raises(UserError, match=r"own\.tar: no tar header at byte 0"):
        read(tmp_path, bytes(content))


def test_other_damage_to_a_tar(tmp_path: Path) -> None:
    whole = tar([("1.npy", IMAGE), ("1.cls", b"0")])
    for content, match in ((b"\xff" + whole[1:], "no tar header at byte 0"), (whole[:1536], "cut short")):
        with pytest.raises(UserError, match=match):
            read(tmp_path / match.split()[0], content)


@pytest.mark.parametrize("samples", [1, 3])
def test_another_number_of_samples_than_the_manifest_says(tmp_path: Path, samples: int) -> None:
    content = tar(
        [(f"{key}.{kind}", data) for key in (1, 2) for kind, data in (("npy", IMAGE), ("cls", b"0"))]
    )
    with pytest.raises(UserError, match=f"own.tar: 2 samples, the manifest says {samples}"):
        read(tmp_path, content, samples=samples)


def test_a_shard_swapped_for_a_longer_one_overwrites_nothing(tmp_path: Path) -> None:
    """Of equal length in bytes, so that only its samples tell."""
    manifest = write_shards(tmp_path / "x")
    first, last = (manifest.splits["train"].shards[i] for i in (0, 2))
    short = manifest.splits["train"].model_copy(
        update={"shards": [last.model_copy(update={"name": first.name}), last], "samples": 20}
    )
    other = manifest.model_copy(update={"splits": {"train": short}})
    with pytest.raises(UserError, match="20 samples, the manifest says 10"):
        load_samples(tmp_path / "x", other, "train")


def manifest_of(task: str, histogram: list[int], ignored: int = 0) -> Manifest:
    names = [f"class{i}" for i in range(len(histogram))]
    samples = sum(histogram) + ignored
    split = {"samples": samples, "histogram": histogram, "ignored_pixels": ignored, "shards": []}
    shard = {"name": "a.tar", "samples": samples, "bytes": 10**6, "sha256": ""}
    values = {
        "dataset": "x",
        "task": task,
        "class_names": names,
        "size": (1, 1),
        "channels": 1,
        "filter": "box",
    }
    values |= {"geometry": "squash", "encoding": "raw", "mean": [0.5], "std": [0.5], "source_fingerprint": ""}
    return Manifest.model_validate({**values, "splits": {"val": {**split, "shards": [shard]}}})


def test_classes_without_samples_are_warned_of() -> None:
    assert manifest_of("classification", [1, 2]).warnings() == []
    assert manifest_of("classification", [1, 0]).warnings() == ["val: no samples of class1"]
    assert manifest_of("segmentation", [3, 1], ignored=6).warnings() == []
    assert manifest_of("segmentation", [3, 0], ignored=1).warnings() == [
        "val: no pixels of class1",
        "val: 25.0% of the pixels are ignored (their mask says 255)",
    ]
    assert manifest_of("segmentation", [0, 0], ignored=4).warnings() == [
        "val: no pixels of any class",
        "val: 100.0% of the pixels are ignored (their mask says 255)",
    ]
    many = manifest_of("classification", [1] + [0] * 7).warnings()
    assert many == ["val: no samples of class1, class2, class3, class4, class5 and 2 more classes"]


def test_a_split_of_ignored_pixels_alone_is_refused_before_a_training() -> None:
    both = manifest_of("segmentation", [3, 1], ignored=6)
    whole = both.model_copy(update={"splits": {"train": both.splits["val"], **both.splits}})
    whole.check_trainable()
    ignored = manifest_of("segmentation", [0, 0], ignored=4).splits["val"]
    for name in ("train", "val"):
        with pytest.raises(UserError, match=rf"x: {name} has no pixels of any class \(class0, class1\)"):
            whole.model_copy(update={"splits": {**whole.splits, name: ignored}}).check_trainable()
