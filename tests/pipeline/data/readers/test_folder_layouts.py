"""Folders as people have them: each layout is understood or refused, and what is passed over is named."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from tests.pipeline.data.readers.raw import check, tar_gz, tar_of, zip_of
from tests.pipeline.workshop import Workshop, encoded, noise, png

CLASSES = ("cat", "dog")


def images(prefix: str = "", splits: tuple[str, ...] = ("train", "val")) -> dict[str, bytes]:
    """One image per class and split, all different."""
    return {
        f"{prefix}{split}/{name}/1.png": png(noise(4, 4, seed=10 * i + j))
        for i, split in enumerate(splits)
        for j, name in enumerate(CLASSES)
    }


def write(workshop: Workshop, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        workshop.write(name, data)


def check_cats_and_dogs(workshop: Workshop, splits: tuple[str, ...] = ("train", "val")) -> None:
    listing = workshop.listing("image_folder")
    assert listing.class_names == ["cat", "dog"]
    assert tuple(listing.splits) == splits
    for i, split in enumerate(splits):
        check(listing, split, [noise(4, 4, seed=10 * i + j) for j in range(2)], [0, 1])


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Train", "VAL"),
        ("training", "validation"),
        ("train", "Valid"),
        ("train_set", "val_set"),
        ("TRAIN", "valset"),
    ],
)
def test_conventional_names_of_splits(workshop: Workshop, train: str, val: str) -> None:
    write(workshop, images(splits=(train, val)))
    check_cats_and_dogs(workshop)


def test_valid_is_val_and_test_stays_test(workshop: Workshop) -> None:
    write(workshop, images(splits=("train", "valid", "test")))
    check_cats_and_dogs(workshop, ("train", "val", "test"))


@pytest.mark.parametrize("prefix", ["data/", "archive/data/", "PetImages/PetImages/"])
def test_wrapping_folders_are_opened(workshop: Workshop, prefix: str) -> None:
    write(workshop, images(prefix))
    workshop.write("README.md", b"read me")
    check_cats_and_dogs(workshop)


def test_class_folders_below_a_wrapping_folder(workshop: Workshop) -> None:
    write(
        workshop,
        {name.replace("train/", "PetImages/"): data for name, data in images(splits=("train",)).items()},
    )
    check_cats_and_dogs(workshop, ("train",))


@pytest.mark.parametrize("top", ["", "cats_and_dogs/"])
@pytest.mark.parametrize("name", ["d.zip", "d.ZIP", "d.tar", "d.tar.gz", "d.TGZ", "train.zip", "deep/d.tar"])
def test_one_archive_with_its_readme(workshop: Workshop, name: str, top: str) -> None:
    content = {**images(top), f"{top}README.txt": b"r", "__MACOSX/._x": b"m", f"{top}train/.DS_Store": b"s"}
    pack = zip_of if name.lower().endswith("zip") else tar_of if name.endswith("tar") else tar_gz
    workshop.write(name, pack(content))
    check_cats_and_dogs(workshop)
    passed_over = workshop.listing("image_folder").passed_over or {}
    assert passed_over["hidden file"].count == 2
    assert passed_over["no suffix of an image: .txt"].example == f"{name}/{top}README.txt"


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize(("suffix", "pack"), [("zip", zip_of), ("tar", tar_of), ("tar.gz", tar_gz)])
def test_an_archive_per_split(workshop: Workshop, suffix: str, pack: type, top: bool) -> None:
    for split in ("train", "val"):
        content = {name: data for name, data in images().items() if name.startswith(split)}
        if not top:
            content = {name.removeprefix(f"{split}/"): data for name, data in content.items()}
        workshop.write(f"{split}.{suffix}", pack(content))
    check_cats_and_dogs(workshop)


def test_an_archive_left_beside_its_folders_is_named(workshop: Workshop) -> None:
    write(workshop, images())
    workshop.write("train.zip", zip_of(images()))
    workshop.write("d.tar", tar_of(images()))
    check_cats_and_dogs(workshop)
    assert set(workshop.listing("image_folder").passed_over or {}) == {
        "no suffix of an image: .zip",
        "no suffix of an image: .tar",
    }


REFUSED = {
    "flat val": (
        {**images(splits=("train",)), "val/1.png": png(noise(4, 4))},
        r"val: 1 images .* without a class",
    ),
    "two folders for val": (images(splits=("train", "val", "valid")), "'val' and 'valid' both stand for val"),
    "splits of years as classes": (
        images(splits=("train2017", "val2017")),
        "'train2017' is called like a split",
    ),
    "a class called train": (
        {f"{name}/1.png": png(noise(4, 4)) for name in ("bus", "car", "train")},
        "train: 1 images lie in it without a class folder",
    ),
    "splits in classes": (
        {f"{name}/{split}/1.png": png(noise(4, 4)) for name in CLASSES for split in ("train", "val")},
        "'cat/train' is called like a split",
    ),
    "two datasets": (images("v1/") | images("v2/"), "'v1/train' is called like a split"),
    "splits in train": (images("train/"), "'train' is called like a split"),
    "no train": (images(splits=("val", "test")), "no train folder among test/, val/"),
    "no images": ({"cat.rar": b"x", "notes.txt": b"x"}, "no class folders, found cat.rar, notes.txt"),
    "docs beside the wrapping folder": (images("data/") | {"docs/a.txt": b"x"}, "called like a split"),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_not_understood_is_refused(workshop: Workshop, layout: str) -> None:
    content, message = REFUSED[layout]
    write(workshop, content)
    with pytest.raises(UserError, match=message):
        workshop.listing("image_folder")


def test_the_hint_of_val_fraction_names_what_was_passed_over(workshop: Workshop) -> None:
    write(workshop, images(splits=("train", "holdout")))
    with pytest.raises(
        UserError, match=r"not used: 2 of image that no sample uses \(e.g. holdout/cat/1.png\)"
    ):
        workshop.prepare()


def test_a_test_split_without_labels_is_passed_over(workshop: Workshop) -> None:
    write(workshop, images() | {"test/1.png": png(noise(4, 4))})
    check_cats_and_dogs(workshop)
    assert (workshop.listing("image_folder").passed_over or {})[
        "image that no sample uses"
    ].example == "test/1.png"


def test_everything_passed_over_is_counted(workshop: Workshop) -> None:
    write(workshop, images() | images("extra/"))
    for name in (
        "train/cat/notes.xml",
        "train/cat/.hidden.png",
        "train/dog/image",
        "train/dog/a.heic",
        "train/b.heic",
    ):
        workshop.write(name, b"x")
    (workshop.raw / "train/cat/gone.png").symlink_to("nowhere.png")
    (workshop.raw / "train/cat/loop").symlink_to(workshop.raw / "train")
    os.mkfifo(workshop.raw / "train/cat/pipe.png")
    passed_over = workshop.listing("image_folder").passed_over or {}
    assert {reason: (item.count, item.example) for reason, item in passed_over.items()} == {
        "dangling link": (1, "train/cat/gone.png"),
        "hidden file": (1, "train/cat/.hidden.png"),
        "image that no sample uses": (4, "extra/train/cat/1.png"),
        "link to a folder above it": (1, "train/cat/loop"),
        "no suffix of an image: .heic": (2, "train/b.heic"),
        "no suffix of an image: .xml": (1, "train/cat/notes.xml"),
        "no suffix of an image: none": (1, "train/dog/image"),
        "not a regular file": (1, "train/cat/pipe.png"),
    }


@pytest.mark.parametrize("name", [".DS_Store", ".gitkeep", "notes.txt", ".nested/1.png", None])
@pytest.mark.parametrize("packed", [False, True])
def test_a_class_folder_without_images_is_an_error(
    workshop: Workshop, name: str | None, packed: bool
) -> None:
    if packed:
        content = {**images(), "train/bird/" if name is None else f"train/bird/{name}": b""}
        workshop.write("d.zip", zip_of(content))
    else:
        write(workshop, images())
        (workshop.raw / "train/bird").mkdir()
        if name is not None:
            workshop.write(f"train/bird/{name}", b"x")
    with pytest.raises(UserError, match="train/bird: no image in this class folder"):
        workshop.listing("image_folder")


def test_links_to_images_and_to_folders_on_the_disk_are_followed(workshop: Workshop, tmp_path: Path) -> None:
    write(workshop, images(splits=("train",)))
    (tmp_path / "held_out").mkdir()
    for name in CLASSES:
        (tmp_path / "held_out" / name).mkdir()
        (tmp_path / "held_out" / name / "1.png").write_bytes(png(noise(4, 4, seed=10 + CLASSES.index(name))))
    (workshop.raw / "val").symlink_to(tmp_path / "held_out")
    check_cats_and_dogs(workshop)


def test_one_class_in_two_spellings_of_unicode_is_refused(workshop: Workshop) -> None:
    for folder in ("caf\u00e9", "cafe\u0301"):
        workshop.write(f"train/{folder}/1.png", png(noise(4, 4)))
    with pytest.raises(UserError, match="one name in two spellings"):
        workshop.listing("image_folder")


@pytest.mark.parametrize("classes", ["cat, cat", "cat, dog, cat"])
def test_two_classes_of_one_name_are_refused(workshop: Workshop, classes: str) -> None:
    write(workshop, {f"{kind}/train/1.png": png(noise(4, 4, 1) % 2) for kind in ("images", "masks")})
    with pytest.raises(UserError, match="the class name 'cat' is empty or occurs twice"):
        workshop.listing("mask_folder", classes=classes)


def mask_layout(image: str, mask: str) -> dict[str, bytes]:
    """Two images and masks per split; ``{s}`` in a name stands for the split, ``{i}`` for the number."""
    content = {}
    for i in range(4):
        split = ("train", "valid")[i // 2]
        content[image.format(s=split, i=i)] = png(noise(4, 4, seed=i))
        content[mask.format(s=split, i=i)] = png(noise(4, 4, 1, seed=i) % 2)
    return content


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{s}/{i}.jpg", "masks/{s}/{i}.png"),
        ("images/{s}/{i}.jpg", "labels/{s}/{i}.png"),
        ("Images/{s}/{i}.jpg", "Annotations/{s}/{i}.png"),
        ("{s}/images/{i}.jpg", "{s}/masks/{i}.png"),
        ("{s}/img/{i}.jpg", "{s}/labels/{i}_mask.png"),
        ("images/{s}/{i}.jpg", "masks/{s}/{i}_mask.png"),
        ("images/{s}/{i}.jpg", "masks/{s}/{i}_L.png"),
        ("data/images/{s}/{i}.jpg", "data/masks/{s}/{i}_GT.png"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_layouts_of_masks(workshop: Workshop, image: str, mask: str, packed: bool) -> None:
    content = mask_layout(image, mask)
    if packed:
        workshop.write("d.tgz", tar_gz(content))
    else:
        write(workshop, content)
    listing = workshop.listing("mask_folder", classes="a, b")
    for split, numbers in (("train", (0, 1)), ("val", (2, 3))):
        pixels = [noise(4, 4, seed=i) for i in numbers]
        check(listing, split, pixels, [noise(4, 4, 1, seed=i) % 2 for i in numbers])
    assert listing.passed_over == {}


def test_an_archive_of_images_and_one_of_masks(workshop: Workshop) -> None:
    content = mask_layout("images/{s}/{i}.jpg", "masks/{s}/{i}.png")
    for kind in ("images", "masks"):
        workshop.write(f"{kind}.zip", zip_of({n: d for n, d in content.items() if n.startswith(kind)}))
    listing = workshop.listing("mask_folder", classes="a, b")
    check(listing, "val", [noise(4, 4, seed=i) for i in (2, 3)], [noise(4, 4, 1, seed=i) % 2 for i in (2, 3)])


def test_the_mask_of_another_image_is_never_taken(workshop: Workshop) -> None:
    """``x_l`` is an image of its own, so its mask is not that of ``x``."""
    for name in ("images/train/x.jpg", "images/train/x_l.jpg", "masks/train/x_l.png"):
        workshop.write(name, png(noise(4, 4, 1) % 2))
    listing = workshop.listing("mask_folder", classes="a, b")
    assert [sample.name for sample in listing.splits["train"]] == ["train/x_l.jpg"]
    assert [item.name for item in listing.left_out["train"]] == ["train/x.jpg"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["images/train/1.jpg", "masks/train/1_other.png"],
            r"train/1.jpg: no mask .*masks/train/1.png \(1 like that",
        ),
        (["images/train/1.jpg"], "expected one folder of masks, found images/"),
        (
            ["images/train/1.jpg", "masks/1.png", "labels/1.png"],
            "one folder of masks, found labels and masks",
        ),
        (["images/1.jpg", "masks/1.png", "masks/1_mask.png"], "are masks of one image"),
        (["pictures/1.jpg", "masks/1.png"], "no folder images among masks/, pictures/"),
    ],
)
def test_masks_that_are_not_understood_are_refused(
    workshop: Workshop, names: list[str], message: str
) -> None:
    for name in names:
        workshop.write(name, png(noise(4, 4, 1)))
    with pytest.raises(UserError, match=message):
        workshop.listing("mask_folder", classes="a, b")


def linked_tar(*links: tuple[str, str, bytes]) -> bytes:
    """The images of `images` in a tar, and links: name, target, type."""
    buffer = io.BytesIO(tar_of({**images(), "other/cat.png": png(noise(4, 4, seed=99))}).rstrip(b"\0"))
    buffer.seek(0, io.SEEK_END)
    buffer.write(bytes(-buffer.tell() % 512))
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return buffer.getvalue()


def test_links_in_a_tar_are_followed_within_it(workshop: Workshop) -> None:
    data = linked_tar(
        ("train/cat/hard.png", "other/cat.png", tarfile.LNKTYPE),
        ("train/cat/soft.png", "../../other/cat.png", tarfile.SYMTYPE),
        ("train/cat/chain.png", "soft.png", tarfile.SYMTYPE),
        ("train/bird", "../other", tarfile.SYMTYPE),
        ("train/cat/gone.png", "nowhere.png", tarfile.SYMTYPE),
        ("train/cat/out.png", "../../../etc/x.png", tarfile.SYMTYPE),
        ("train/cat/root.png", "/etc/x.png", tarfile.LNKTYPE),
        ("train/cat/round.png", "round.png", tarfile.SYMTYPE),
    )
    workshop.write("d.tar", data)
    listing = workshop.listing("image_folder")
    assert listing.class_names == ["bird", "cat", "dog"]
    other = noise(4, 4, seed=99)
    cat, dog = noise(4, 4, seed=0), noise(4, 4, seed=1)
    check(listing, "train", [other, cat, other, other, other, dog], [0, 1, 1, 1, 1, 2])
    assert {reason: item.count for reason, item in (listing.passed_over or {}).items()} == {
        "dangling link": 2,
        "link that leads out of the archive": 2,
    }


def test_joined_tars_are_read_as_one(workshop: Workshop) -> None:
    parts = [tar_of({name: data}) for name, data in images().items()]
    workshop.write("d.tar", b"".join(parts))
    check_cats_and_dogs(workshop)


def test_joined_tars_with_another_thing_between_are_refused(workshop: Workshop) -> None:
    first, second = tar_of(images(splits=("train",))), tar_of(images(splits=("val",)))
    workshop.write("d.tar", first + b"no tar".ljust(512) + second)
    with pytest.raises(UserError, match="not a whole tar archive"):
        workshop.listing("image_folder")


@pytest.mark.parametrize("suffix", ["jfif", "avif", "jp2", "JPE", "webp"])
def test_images_under_less_common_suffixes_are_taken(workshop: Workshop, suffix: str) -> None:
    write(workshop, images())
    workshop.write(f"train/cat/0.{suffix}", png(np.zeros((4, 4, 3), np.uint8)))
    assert len(workshop.listing("image_folder").splits["train"]) == 3


def test_two_archives_of_one_name_are_refused(workshop: Workshop) -> None:
    workshop.write("train.zip", zip_of(images()))
    workshop.write("train.tar", tar_of(images()))
    with pytest.raises(UserError, match=r"two of the archives train.tar, train.zip have one name"):
        workshop.listing("image_folder")


COLOURS = {"road": [128, 64, 128], "car": [[0, 0, 142], [0, 0, 70]]}


def coloured_mask(ids: list[list[int]]) -> bytes:
    palette = np.array([[128, 64, 128], [0, 0, 142], [0, 0, 70], [0, 0, 0]], np.uint8)
    return encoded(Image.fromarray(palette[np.array(ids)]), "PNG")


def test_masks_in_colours_are_prepared_with_their_palette(workshop: Workshop) -> None:
    ids = [[0, 1, 2, 3]] * 4
    for split in ("train", "val"):
        workshop.write(f"images/{split}/a.png", png(noise(4, 4)))
        workshop.write(f"masks/{split}/a.png", coloured_mask(ids))
    options = {"colours": COLOURS, "ignore": [0, 0, 0]}
    manifest = workshop.prepare(reader="mask_folder", sizes=[[4, 4]], options=options)[0]
    assert manifest.class_names == ["road", "car"]
    assert manifest.palette == [(128, 64, 128), (0, 0, 142)]
    assert manifest.splits["train"].histogram == [4, 8]
    assert manifest.splits["train"].ignored_pixels == 4
    other = workshop.prepare(
        reader="mask_folder", sizes=[[4, 4]], options=options | {"classes": ["car", "road"]}
    )[0]
    assert other.splits["train"].histogram == [8, 4]


def test_a_colour_of_no_class_is_corrupt_and_named(workshop: Workshop) -> None:
    for split in ("train", "val"):
        workshop.write(f"images/{split}/a.png", png(noise(4, 4)))
        workshop.write(f"masks/{split}/a.png", coloured_mask([[0, 1, 2, 3]] * 4))
    with pytest.raises(UserError, match=r"no class has: \[0, 0, 0\]"):
        workshop.prepare(reader="mask_folder", sizes=[[4, 4]], options={"colours": COLOURS})


def test_suffixes_pair_images_and_masks(workshop: Workshop) -> None:
    for i in range(3):
        workshop.write(f"train/images/{i}_sat.jpg", png(noise(4, 4)))
        workshop.write(f"train/images/{i}_depth.png", png(noise(4, 4)))
        workshop.write(f"train/masks/{i}_lane.png", png(noise(4, 4, 1) % 2))
    listing = workshop.listing("mask_folder", classes=["a", "b"], suffix="_lane", image_suffix="_sat")
    assert len(listing.splits["train"]) == 3
    assert not listing.left_out.get("train")
    assert listing.passed_over is not None
    assert sum(one.count for one in listing.passed_over.values()) == 3
    workshop.write("train/images/9_sat.jpg", png(noise(4, 4)))
    listing = workshop.listing("mask_folder", classes=["a", "b"], suffix="_lane", image_suffix="_sat")
    assert [one.reason for one in listing.left_out["train"]] == ["no mask masks/9_lane.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": ["red"]}, "options.colours: got ['red'], allowed: a colour for each class"),
        ({"colours": {}}, "options.colours: got {}, allowed"),
        (
            {"colours": {"a": [1, 2]}},
            "options.colours.a: got [1, 2], allowed: a colour as [red, green, blue]",
        ),
        ({"colours": {"a": [1, 2, 256]}}, "options.colours.a: got [1, 2, 256]"),
        ({"colours": {"a": [1, 2, True]}}, "options.colours.a: got [1, 2, True]"),
        ({"colours": {"a": [1, 2, 3], "b": [1, 2, 3]}}, "[1, 2, 3] is of a and of b; it can be of one"),
        ({"colours": {"a": [1, 2, 3]}, "ignore": [1, 2, 3]}, "[1, 2, 3] is of a and of ignore"),
        ({"colours": {"a": [1, 2, 3]}, "ignore": 255}, "options.ignore: got 255, allowed: a colour"),
        ({"colours": {"road": [1, 2, 3]}, "classes": ["raod"]}, "raod has no colour (did you mean 'road'?)"),
        ({"colours": {"a": [1, 2, 3], "b": [4, 5, 6]}, "classes": "a"}, "options.colours: b: not among"),
        ({"classes": []}, "options.classes: the class names"),
        ({"classes": ["a"], "ignore": [1, 2, 3]}, "options.ignore an id 0 to 255"),
    ],
)
def test_options_of_masks_that_make_no_sense_are_named(
    workshop: Workshop, options: dict[str, Any], message: str
) -> None:
    workshop.write("images/train/a.png", png(noise(4, 4)))
    workshop.write("masks/train/a.png", png(noise(4, 4, 1) % 2))
    with pytest.raises(UserError) as refused:
        workshop.listing("mask_folder", **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
