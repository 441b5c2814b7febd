"""Tables of images: CSV, Parquet as the `datasets` library writes it, WebDataset tars as `webdataset` writes them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from tests.pipeline.data.readers.raw import check, tar_gz, tar_of, zip_of
from tests.pipeline.workshop import Workshop, noise, png

IMAGES = [noise(4, 4, seed=i) for i in range(4)]
MASKS = [noise(4, 4, 1, seed=i) % 2 for i in range(4)]


def write_images(workshop: Workshop, folder: str = "images") -> None:
    for i, image in enumerate(IMAGES):
        workshop.write(f"{folder}/{i}.png", png(image))


def csv(workshop: Workshop, *lines: str, name: str = "train.csv") -> None:
    workshop.write(name, "\n".join(lines).encode())


@pytest.mark.parametrize("lines", [
    ["image,label,split", "images/0.png,dog,train", "images/1.png,cat,train", "images/2.png,dog,valid"],
    ["id;class;subset", "0;dog;Train", "1;cat;Train", "2;dog;VAL"],
    ["label\tfilename\tsplit", "dog\t./0.png\ttraining", "cat\timages\\1.png\ttraining", "dog\t2.png\tval"],
    ['\ufeffImage,"Label",Split', '"images/0.png"," dog ",train', "images/1.png,cat,train", "", "images/2.png,dog,val"],
])  # fmt: skip
def test_a_csv_of_labels(workshop: Workshop, lines: list[str]) -> None:
    write_images(workshop)
    csv(workshop, *lines)
    listing = workshop.listing("csv")
    assert listing.class_names == ["cat", "dog"]
    check(listing, "train", IMAGES[:2], [1, 0])
    check(listing, "val", [IMAGES[2]], [1])
    assert {why: item.count for why, item in (listing.passed_over or {}).items()} == {
        "image that no sample uses": 1,
        "no suffix of an image: .csv": 1,
    }


def test_a_csv_per_split_and_columns_by_option(workshop: Workshop) -> None:
    write_images(workshop)
    csv(workshop, "which,kind,label", "0,7,x", "1,10,x")
    csv(workshop, "which,kind,label", "2,10,x", name="val.csv")
    listing = workshop.listing("csv", image="which", label="kind")
    assert listing.class_names == [str(i) for i in range(11)]
    check(listing, "train", IMAGES[:2], [7, 10])
    check(listing, "val", [IMAGES[2]], [10])


def test_a_csv_of_several_labels(workshop: Workshop) -> None:
    write_images(workshop)
    csv(
        workshop,
        "image,labels,split",
        "0.png,cat|dog,train",
        "1.png,,train",
        "2.png,dog|bird,train",
        "3.png,cat,val",
    )
    listing = workshop.listing("csv", delimiter="|")
    assert listing.task == "multilabel"
    assert listing.class_names == ["bird", "cat", "dog"]
    assert [sample.target for sample in listing.splits["train"]] == [(1, 2), (), (0, 2)]
    assert [sample.target for sample in listing.splits["val"]] == [(1,)]


def test_a_csv_with_a_column_per_class(workshop: Workshop) -> None:
    write_images(workshop)
    csv(workshop, "image,cat,dog", "0.png,1,0", "1.png,1,1", "2.png,0,0")
    listing = workshop.listing("csv", label="cat,dog")
    assert [sample.target for sample in listing.splits["train"]] == [(0,), (0, 1), ()]


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_of_masks(workshop: Workshop, packed: bool) -> None:
    masks = {f"{i}.png": png(mask) for i, mask in enumerate(MASKS)}
    write_images(workshop)
    if packed:
        workshop.write("truth.zip", zip_of(masks))
    else:
        for name, data in masks.items():
            workshop.write(f"truth/{name}", data)
    csv(
        workshop,
        "image,mask,split",
        *(f"images/{i}.png,truth/{i}.png,{'train' if i < 3 else 'val'}" for i in range(4)),
    )
    listing = workshop.listing("csv", classes="road, car")
    check(listing, "train", IMAGES[:3], MASKS[:3])
    check(listing, "val", IMAGES[3:], MASKS[3:])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,label", "0.png,cat", "9.png,dog"], None),
        (["image,label", "0.png,cat", "0.png,dog"], "occurs in two rows"),
        (["image,label", "0.png,cat", "1.png,"], "row 3: no label"),
        (["image,label", "0.png,cat", "1.png"], "row 3: 1 cells or no image, expected 2"),
        (["image,label,split", "0.png,cat,holdout"], "row 2: 'holdout' is no split"),
        (
            ["image,label,split", "0.png,cat,train", "1.png,dog,val"],
            "the label 'dog' is not among the 1 classes",
        ),
        (
            ["image,kind", "0.png,cat"],
            "needs a column of images and either one of labels or one of masks, has: image",
        ),
        (["image,label,mask", "0.png,cat,1.png"], "either one of labels or one of masks"),
        (["image,label", "0.png,999999999"], "labels from 999999999 to 999999999 are no class numbers"),
        (["image,label", "../../etc/passwd,cat", "0.png,cat"], None),
        ([], "needs a column"),
    ],
)
def test_rows_that_are_wrong_are_refused_or_left_out(
    workshop: Workshop, lines: list[str], message: str | None
) -> None:
    write_images(workshop)
    csv(workshop, *lines)
    if message is None:
        (left_out,) = workshop.listing("csv").left_out["train"]
        assert left_out.reason.endswith("no such image")
    else:
        with pytest.raises(UserError, match=message):
            workshop.listing("csv")


def test_a_csv_name_that_fits_two_images_is_refused(workshop: Workshop) -> None:
    for folder in "ab":
        workshop.write(f"{folder}/0.png", png(IMAGES[0]))
    csv(workshop, "image,label", "0.png,cat")
    with pytest.raises(UserError, match=r"train.csv, row 2: several images are called '0.png'"):
        workshop.listing("csv")


@pytest.mark.parametrize("content", [b"\xff\xfei\0m\0", b"image,label\n\xe9.png,cat\n"])
def test_a_csv_in_another_encoding_is_refused(workshop: Workshop, content: bytes) -> None:
    workshop.write("train.csv", content)
    with pytest.raises(UserError, match="not a text in UTF-8"):
        workshop.listing("csv")


def write_parquet(
    path: Path, columns: dict[str, Any], features: dict[str, Any], rows_per_group: int = 2
) -> None:
    """Write ``path`` with the `datasets` library."""
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(str(path), batch_size=rows_per_group)


def pictures(arrays: list[Any]) -> list[Image.Image]:
    return [Image.fromarray(array) for array in arrays]


def test_parquet_of_the_hub(workshop: Workshop) -> None:
    """Two files of train, several row groups, class names in the schema: not sorted, so the order is theirs."""
    import datasets

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])}
    data = workshop.raw / "data"
    write_parquet(
        data / "train-00000-of-00002.parquet", {"image": pictures(IMAGES[:2]), "label": [1, 0]}, features
    )
    write_parquet(
        data / "train-00001-of-00002.parquet", {"image": pictures(IMAGES[2:3]), "label": [1]}, features
    )
    write_parquet(
        data / "validation-00000-of-00001.parquet", {"image": pictures(IMAGES[3:]), "label": [0]}, features
    )
    for _ in range(2):  # the second time from the scratch folder
        listing = workshop.listing("parquet")
        assert listing.class_names == ["zebra", "ant"]
        check(listing, "train", IMAGES[:3], [1, 0, 1])
        check(listing, "val", IMAGES[3:], [0])
    assert listing.passed_over == {}


def test_parquet_of_masks(workshop: Workshop) -> None:
    import datasets

    features = {"image": datasets.Image(), "annotation": datasets.Image()}
    for split, part in (("train", slice(0, 3)), ("test", slice(3, 4))):
        columns = {"image": pictures(IMAGES[part]), "annotation": pictures(MASKS[part])}
        write_parquet(workshop.raw / split / "0000.parquet", columns, features)
    listing = workshop.listing("parquet", classes="a, b")
    check(listing, "train", IMAGES[:3], MASKS[:3])
    check(listing, "test", IMAGES[3:], MASKS[3:])


def test_parquet_of_several_labels_and_of_names(workshop: Workshop) -> None:
    import datasets

    path = workshop.raw / "train.parquet"
    several = {
        "image": datasets.Image(),
        "labels": datasets.Sequence(datasets.ClassLabel(names=["a", "b", "c"])),
    }
    write_parquet(path, {"image": pictures(IMAGES[:2]), "labels": [[2, 0], []]}, several)
    listing = workshop.listing("parquet")
    assert [sample.target for sample in listing.splits["train"]] == [(0, 2), ()]
    assert listing.class_names == ["a", "b", "c"]
    path.unlink()
    named = {"image": datasets.Image(), "label": datasets.Value("string")}
    write_parquet(path, {"image": pictures(IMAGES[:2]), "label": ["dog", "cat"]}, named)
    check(workshop.listing("parquet"), "train", IMAGES[:2], [1, 0])


def test_parquet_rows_without_an_image_are_left_out(workshop: Workshop) -> None:
    import datasets

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    columns = {"image": [*pictures(IMAGES[:1]), None], "label": [0, 1]}
    write_parquet(workshop.raw / "train.parquet", columns, features)
    listing = workshop.listing("parquet")
    check(listing, "train", IMAGES[:1], [0])
    assert [item.name for item in listing.left_out["train"]] == ["train.parquet[1]"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"<html>"])
def test_what_is_no_parquet_is_refused(workshop: Workshop, content: bytes) -> None:
    workshop.write("train.parquet", content)
    with pytest.raises(UserError, match=r"train.parquet: not a whole Parquet file"):
        workshop.listing("parquet")


def test_parquet_without_images_names_its_columns(workshop: Workshop) -> None:
    import datasets

    write_parquet(workshop.raw / "train.parquet", {"text": ["a"]}, {"text": datasets.Value("string")})
    with pytest.raises(UserError, match=r"needs a column of images .* has: text; set options.image"):
        workshop.listing("parquet")
    with pytest.raises(UserError, match=r"options.image: got 'txt' \(did you mean 'text'\?\)"):
        workshop.listing("parquet", image="txt")


def webdataset_tar(numbers: range, **others: Any) -> bytes:
    """A tar that the `webdataset` library wrote: ``png`` and, for each of ``others``, what it gives for a number."""
    import webdataset

    stream = io.BytesIO()
    with webdataset.TarWriter(stream, encoder=False) as writer:
        for i in numbers:
            more = {extension.replace("_", "."): give(i) for extension, give in others.items()}
            writer.write({"__key__": f"sample{i}", "png": png(IMAGES[i]), **more})
    return stream.getvalue()


LABELS = [1, 0, 1, 1]


@pytest.mark.parametrize("others", [
    {"cls": lambda i: str(LABELS[i]).encode()},
    {"json": lambda i: json.dumps({"url": "x", "label": LABELS[i]}).encode()},
    {"cls": lambda i: str(LABELS[i]).encode(), "json": lambda _: b"{}", "txt": lambda _: b"a caption"},
])  # fmt: skip
def test_webdataset_of_labels(workshop: Workshop, others: dict[str, Any]) -> None:
    workshop.write("own-train-0000.tar", webdataset_tar(range(2), **others))
    workshop.write("own-train-0001.tar", webdataset_tar(range(2, 3), **others))
    workshop.write("own-validation-0000.tar", webdataset_tar(range(3, 4), **others))
    workshop.write("classnames.txt", b"zebra\nant\n")
    listing = workshop.listing("webdataset")
    assert listing.class_names == ["zebra", "ant"]
    check(listing, "train", IMAGES[:3], LABELS[:3])
    check(listing, "val", IMAGES[3:], LABELS[3:])


def test_webdataset_of_names_in_folders(workshop: Workshop) -> None:
    content = {"a/0.jpg": png(IMAGES[0]), "a/0.cls": b"dog\n", "b/0.jpg": png(IMAGES[1]), "b/0.cls": b"cat"}
    workshop.write("train/0.tar.gz", tar_gz(content))
    check(workshop.listing("webdataset"), "train", IMAGES[:2], [1, 0])


@pytest.mark.parametrize("extension", ["mask.png", "seg.png"])
def test_webdataset_of_masks(workshop: Workshop, extension: str) -> None:
    content: dict[str, bytes] = {}
    for i in range(3):
        content |= {f"{i}.jpg": png(IMAGES[i]), f"{i}.{extension}": png(MASKS[i])}
    workshop.write("train.tar", tar_of(content))
    check(workshop.listing("webdataset", classes="a, b"), "train", IMAGES[:3], MASKS[:3])


def test_webdataset_samples_without_labels_are_left_out(workshop: Workshop) -> None:
    workshop.write(
        "train.tar", tar_of({"0.png": png(IMAGES[0]), "0.cls": b"0", "1.png": png(IMAGES[1]), "2.cls": b"0"})
    )
    listing = workshop.listing("webdataset")
    check(listing, "train", IMAGES[:1], [0])
    assert {item.name: item.reason for item in listing.left_out["train"]} == {
        "train.tar/1": "no .cls, no label in .json, and no mask",
        "train.tar/2": "no image among its members",
    }


@pytest.mark.parametrize("label", [b"\xff", b"-1", b"99999999999"])
def test_webdataset_labels_that_are_none_are_refused(workshop: Workshop, label: bytes) -> None:
    workshop.write(
        "train.tar", tar_of({"0.png": png(IMAGES[0]), "0.cls": label, "1.png": b"", "1.cls": b"0"})
    )
    with pytest.raises(UserError):
        workshop.listing("webdataset", classes="a, b")


def test_a_webdataset_in_an_object_store(workshop: Workshop) -> None:
    """The same bytes through fsspec's own store in memory."""
    import fsspec

    from pipeline.data.raw.blobs import list_files
    from pipeline.data.raw.listing import Source
    from pipeline.data.readers import read

    store = fsspec.filesystem("memory")
    store.pipe("/own/train-0.tar", webdataset_tar(range(3), cls=lambda i: str(LABELS[i]).encode()))
    root = "memory://own"
    listing = read("webdataset", Source(root, list_files(root), workshop.folder / "scratch", {}))
    check(listing, "train", IMAGES[:3], LABELS[:3])
    store.rm("/own", recursive=True)
    np.testing.assert_equal(listing.class_names, ["0", "1"])
