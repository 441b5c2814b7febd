"""Readers of archives and folders, on tiny files in each genuine raw format, and files that are not theirs."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.core.errors import UserError
from tests.pipeline.data.readers.raw import Pixels, check, idx, tar_gz, tar_of, zip_of
from tests.pipeline.workshop import Workshop, encoded, noise, png


def imagenet_tars(workshop: Workshop) -> list[Pixels]:
    images = [noise(9, 7, seed=i) for i in range(5)]
    dog = tar_of({"n02_1.JPEG": png(images[0]), "n02_2.JPEG": png(images[1])})
    cat = tar_of({"n01_1.JPEG": png(images[2])})
    workshop.write("ILSVRC2012_img_train.tar", tar_of({"n02.tar": dog, "n01.tar": cat}))
    val = {"ILSVRC2012_val_00000002.JPEG": png(images[4]), "ILSVRC2012_val_00000001.JPEG": png(images[3])}
    workshop.write("ILSVRC2012_img_val.tar", tar_of(val))
    return images


def write_devkit(workshop: Workshop, truth: str) -> None:
    """meta.mat as the devkit has it: a struct array, its ids in another order than the synsets."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(1, "n02", "dog", 0), (2, "n01", "cat", 0), (1001, "n00", "animal", 2)], dtype=kinds)
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": synsets.reshape(-1, 1)})
    top = "ILSVRC2012_devkit_t12/data"
    content = {
        f"{top}/meta.mat": buffer.getvalue(),
        f"{top}/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
    }
    workshop.write("ILSVRC2012_devkit_t12.tar.gz", tar_gz(content))


def test_imagenet_tars(workshop: Workshop) -> None:
    images = imagenet_tars(workshop)
    write_devkit(workshop, "1\n2\n")
    listing = workshop.listing("imagenet")
    assert listing.class_names == ["n01", "n02"]
    check(listing, "train", [images[2], images[0], images[1]], [0, 1, 1])
    check(listing, "val", [images[3], images[4]], [1, 0])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n01 1 2 3 4 \n"
            "ILSVRC2012_val_00000001,n02 1 2 3 4\n",
        ),
        ("imagenet_2012_validation_synset_labels.txt", "n02\nn01\n"),
    ],
)
def test_imagenet_val_classes_from_other_maps(workshop: Workshop, name: str, text: str) -> None:
    images = imagenet_tars(workshop)
    workshop.write(name, text.encode())
    check(workshop.listing("imagenet"), "val", [images[3], images[4]], [1, 0])


@pytest.mark.parametrize("form", ["folders", "zip", "unpacked tars"])
def test_imagenet_as_kaggle_has_it_and_unpacked(workshop: Workshop, form: str) -> None:
    images = [noise(9, 7, seed=i) for i in range(4)]
    top = "ILSVRC/Data/CLS-LOC"
    content = {
        f"{top}/train/n02/n02_1.JPEG": png(images[0]),
        f"{top}/train/n01/n01_1.JPEG": png(images[1]),
        f"{top}/val/ILSVRC2012_val_00000001.JPEG": png(images[2]),
        f"{top}/val/ILSVRC2012_val_00000002.JPEG": png(images[3]),
        f"{top}/test/ILSVRC2012_test_00000001.JPEG": png(images[3]),
        "LOC_val_solution.csv": b"ImageId,PredictionString\nILSVRC2012_val_00000002,n01 1 2 3 4 n01 5 6 7 8\n"
        b"ILSVRC2012_val_00000001,n02 1 2 3 4\n",
    }
    if form == "zip":
        content = {"imagenet-object-localization-challenge.zip": zip_of(content)}
    if form == "unpacked tars":
        content = {name.replace(f"{top}/val", "ILSVRC2012_img_val"): data for name, data in content.items()}
        for synset in ("n01", "n02"):
            image = content.pop(f"{top}/train/{synset}/{synset}_1.JPEG")
            content[f"ILSVRC2012_img_train/{synset}.tar"] = tar_of({f"{synset}_1.JPEG": image})
    for name, data in content.items():
        workshop.write(name, data)
    listing = workshop.listing("imagenet")
    assert listing.class_names == ["n01", "n02"]
    check(listing, "train", [images[1], images[0]], [0, 1])
    check(listing, "val", images[2:], [1, 0])


def test_imagenet_maps_that_do_not_fit(workshop: Workshop) -> None:
    imagenet_tars(workshop)
    with pytest.raises(UserError, match=r"no ILSVRC2012_devkit_t12.tar.gz or LOC_val_solution.csv"):
        workshop.listing("imagenet")
    write_devkit(workshop, "1\n2\n1\n")
    with pytest.raises(UserError, match=r"2 images, .* tells the class of 3"):
        workshop.listing("imagenet")
    write_devkit(workshop, "1\n1001\n")
    with pytest.raises(UserError, match="has class n00, which is not among the 2"):
        workshop.listing("imagenet")


def test_tiny_imagenet(workshop: Workshop) -> None:
    images = [noise(64, 64, seed=i) for i in range(3)]
    top = "tiny-imagenet-200"
    content = {
        f"{top}/train/n02/images/n02_0.JPEG": png(images[0]),
        f"{top}/train/n02/n02_boxes.txt": b"n02_0.JPEG\t0\t0\t1\t1\n",
        f"{top}/train/n01/images/n01_0.JPEG": png(images[1]),
        f"{top}/val/images/val_0.JPEG": png(images[2]),
        f"{top}/val/val_annotations.txt": b"val_0.JPEG\tn02\t0\t0\t1\t1\n",
        f"{top}/test/images/test_0.JPEG": png(images[2]),
    }
    workshop.write(f"{top}.zip", zip_of(content))
    listing = workshop.listing("tiny_imagenet")
    assert listing.class_names == ["n01", "n02"]
    check(listing, "train", [images[1], images[0]], [0, 1])
    check(listing, "val", [images[2]], [1])
    assert set(listing.splits) == {"train", "val"}


def test_places365(workshop: Workshop) -> None:
    images = [noise(8, 8, seed=i) for i in range(2)]
    lists = {
        "places365_train_standard.txt": b"/a/airfield/00000001.jpg 1\n",
        "places365_val.txt": b"Places365_val_00000001.jpg 0\n",
        "categories_places365.txt": b"/z/zen_garden 0\n/a/airfield 1\n",
    }
    workshop.write("filelist_places365-standard.tar", tar_of(lists))
    workshop.write(
        "train_256_places365standard.tar", tar_of({"data_256/a/airfield/00000001.jpg": png(images[0])})
    )
    workshop.write("val_256.tar", tar_of({"val_256/Places365_val_00000001.jpg": png(images[1])}))
    listing = workshop.listing("places365")
    assert listing.class_names == ["/z/zen_garden", "/a/airfield"]
    check(listing, "train", [images[0]], [1])
    check(listing, "val", [images[1]], [0])


@pytest.mark.parametrize("form", ["tar.gz", "tar", "folders"])
def test_inat2021(workshop: Workshop, form: str) -> None:
    images = [noise(8, 8, seed=i) for i in range(3)]
    trees = {
        "train_mini": {"00001_Animalia_b/x.jpg": png(images[0]), "00000_Animalia_a/y.jpg": png(images[1])},
        "val": {"00001_Animalia_b/z.jpg": png(images[2])},
    }
    for folder, tree in trees.items():
        content = {f"{folder}/{name}": data for name, data in tree.items()}
        if form == "folders":
            for name, data in content.items():
                workshop.write(name, data)
        else:
            workshop.write(f"{folder}.{form}", tar_gz(content) if form == "tar.gz" else tar_of(content))
    listing = workshop.listing("inat2021")
    check(listing, "train", [images[1], images[0]], [0, 1])
    check(listing, "val", [images[2]], [1])


def test_caltech256_is_a_folder_per_class_in_a_tar(workshop: Workshop) -> None:
    """Its stray files (``RENAME2`` in 198.spider) are no images; it has no split of its own."""
    images = [noise(8, 8, seed=i) for i in range(10)]
    top = "256_ObjectCategories"
    content = {f"{top}/001.ak47/001_{i:04d}.jpg": png(image) for i, image in enumerate(images[:5])}
    content |= {f"{top}/198.spider/198_{i:04d}.jpg": png(image) for i, image in enumerate(images[5:])}
    workshop.write(f"{top}.tar", tar_of({**content, f"{top}/198.spider/RENAME2": b"#!/bin/sh"}))
    listing = workshop.listing("image_folder")
    assert listing.class_names == ["001.ak47", "198.spider"]
    check(listing, "train", images, [0] * 5 + [1] * 5)
    with pytest.raises(UserError, match=r"no val or test split .*val_fraction"):
        workshop.prepare()
    manifest = workshop.prepare(val_fraction=0.2)[0]
    assert {name: split.histogram for name, split in manifest.splits.items()} == {
        "train": [4, 4],
        "val": [1, 1],
    }


def test_a_class_keeps_an_image_to_train_on(workshop: Workshop) -> None:
    workshop.write("one/1.png", png(noise(9, 9)))
    with pytest.raises(UserError, match="no class has two images"):
        workshop.prepare(val_fraction=0.5)
    for i in range(2):
        workshop.write(f"two/{i}.png", png(noise(9, 9, seed=i)))
    manifest = workshop.prepare(val_fraction=0.9)[0]
    assert {name: split.histogram for name, split in manifest.splits.items()} == {
        "train": [1, 1],
        "val": [0, 1],
    }


def cityscapes_content() -> tuple[dict[str, bytes], dict[str, bytes], list[Pixels]]:
    image, mask = noise(6, 8), noise(6, 8, 1) % 34
    frame = "aachen/aachen_000000_000019"
    images = {
        f"leftImg8bit/{split}/{frame}_leftImg8bit.png": png(image) for split in ("train", "val", "test")
    }
    masks = {f"gtFine/{split}/{frame}_gtFine_labelIds.png": png(mask) for split in ("train", "val", "test")}
    masks |= {f"gtFine/train/{frame}_gtFine_color.png": png(image)}
    return images, masks, [image, mask]


@pytest.mark.parametrize("form", ["zips", "folders"])
def test_cityscapes(workshop: Workshop, form: str) -> None:
    images, masks, (image, mask) = cityscapes_content()
    if form == "zips":
        workshop.write("leftImg8bit_trainvaltest.zip", zip_of(images))
        workshop.write("gtFine_trainvaltest.zip", zip_of({**masks, "README": b"r", "license.txt": b"l"}))
    else:
        for name, data in {**images, **masks}.items():
            workshop.write(name, data)
    listing = workshop.listing("cityscapes")
    assert set(listing.splits) == {"train", "val"}
    assert len(listing.class_names) == 19
    check(listing, "train", [image], [mask])
    assert listing.labels is not None
    assert listing.labels.train_ids[7] == 0  # road
    assert listing.labels.train_ids[33] == 18  # bicycle
    ignored = [i for i in range(34) if listing.labels.train_ids[i] == 255]
    assert ignored == [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]


def test_mask_folder(workshop: Workshop) -> None:
    image, mask = noise(6, 8), noise(6, 8, 1) % 3
    palette = Image.fromarray(mask, "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for split in ("train", "val"):
        workshop.write(f"images/{split}/sub/street é 1.jpg", png(image))
        workshop.write(f"masks/{split}/sub/street é 1.png", encoded(palette, "PNG"))
    manifest = workshop.prepare(
        reader="mask_folder", sizes=[[6, 8]], options={"classes": "road, car, sky", "ignore": 2}
    )[0]
    assert manifest.class_names == ["road", "car", "sky"]
    assert manifest.splits["train"].histogram == [int((mask == 0).sum()), int((mask == 1).sum()), 0]
    assert manifest.splits["train"].ignored_pixels == int((mask == 2).sum())
    workshop.write("images/val/sub/street é 1.png", png(image))
    with pytest.raises(UserError, match="have one name; keep one"):
        workshop.listing("mask_folder", classes="a,b,c")


WRONG = {
    "cifar": ("cifar-10-python.tar.gz", b"<html>"),
    "cityscapes": ("leftImg8bit_trainvaltest.zip", b""),
    "emnist": ("gzip.zip", b""),
    "imagenet": ("ILSVRC2012_img_train.tar", b""),
    "imagenet64": ("Imagenet64_val.zip", b"PK"),
    "inat2021": ("train_mini.tar.gz", b""),
    "mnist": ("train-images-idx3-ubyte.gz", b""),
    "places365": ("filelist_places365-standard.tar", b""),
    "stl10": ("stl10_binary.tar.gz", b"\x1f\x8b cut"),
    "svhn": ("train_32x32.mat", b""),
    "tiny_imagenet": ("tiny-imagenet-200.zip", b""),
}


@pytest.mark.parametrize("reader", WRONG)
def test_an_archive_that_is_empty_or_none_gets_one_line(workshop: Workshop, reader: str) -> None:
    name, content = WRONG[reader]
    workshop.write(name, content)
    with pytest.raises(UserError) as error:
        workshop.listing(reader)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reader", sorted({*WRONG, "image_folder", "mask_folder"}))
def test_the_archive_of_another_dataset_is_refused(workshop: Workshop, reader: str) -> None:
    """MNIST's files for all others, and a text for MNIST."""
    name = "readme.txt" if reader == "mnist" else "t10k-images-idx3-ubyte.gz"
    workshop.write(name, idx(noise(28, 28, 1)[None]))
    with pytest.raises(UserError) as error:
        workshop.listing(reader, **({"classes": "a"} if reader == "mask_folder" else {}))
    assert str(workshop.raw) in str(error.value) or "no " in str(error.value)


def test_a_tar_of_tars_cut_inside_is_refused(workshop: Workshop) -> None:
    imagenet_tars(workshop)
    path = workshop.raw / "ILSVRC2012_img_train.tar"
    with tarfile.open(path) as tar:
        inner = tar.getmember("n01.tar")
    data = bytearray(path.read_bytes())
    data[inner.offset_data + 512 :] = data[inner.offset_data + 512 : -10240]
    path.write_bytes(data)
    with pytest.raises(UserError, match="download it again"):
        workshop.listing("imagenet")


def test_options_are_checked(workshop: Workshop) -> None:
    workshop.write("x", b"x")
    with pytest.raises(UserError, match=r"got 'spilt' \(did you mean 'split'\?\)"):
        workshop.listing("emnist", spilt="letters")
    with pytest.raises(UserError, match=r"got 'leters' \(did you mean 'letters'\?\)"):
        workshop.listing("emnist", split="leters")
    with pytest.raises(UserError, match=r"got 'cityscape' \(did you mean 'cityscapes'\?\)"):
        workshop.listing("cityscape")
