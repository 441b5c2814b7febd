"""Readers of arrays, on tiny files in each genuine raw format; official pickles can run no code."""

from __future__ import annotations

import gzip
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.core.errors import UserError
from tests.pipeline.data.readers.raw import Pixels, check, idx, tar_gz, zip_of
from tests.pipeline.workshop import Workshop, noise


def cifar_batch(images: Pixels, labels: list[int], key: str) -> bytes:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({b"data": rows, key.encode(): labels, b"batch_label": b"x"}, protocol=2)


def test_cifar10(workshop: Workshop) -> None:
    images = np.stack([noise(32, 32, seed=i) for i in range(6)])
    files = {
        f"cifar-10-batches-py/data_batch_{i}": cifar_batch(images[i - 1 : i], [i - 1], "labels")
        for i in range(1, 6)
    }
    files["cifar-10-batches-py/test_batch"] = cifar_batch(images[5:], [9], "labels")
    names = [f"class{i}".encode() for i in range(10)]
    files["cifar-10-batches-py/batches.meta"] = pickle.dumps({b"label_names": names}, protocol=2)
    workshop.write("cifar-10-python.tar.gz", tar_gz(files))
    listing = workshop.listing("cifar")
    assert listing.class_names == [f"class{i}" for i in range(10)]
    check(listing, "train", list(images[:5]), [0, 1, 2, 3, 4])
    check(listing, "test", [images[5]], [9])


def test_cifar100_unpacked_uses_the_fine_labels(workshop: Workshop) -> None:
    images = np.stack([noise(32, 32, seed=i) for i in range(2)])
    for name, part, label in (("train", images[:1], 99), ("test", images[1:], 3)):
        workshop.write(f"cifar-100-python/{name}", cifar_batch(part, [label], "fine_labels"))
    names = [f"fine{i}" for i in range(100)]
    workshop.write("cifar-100-python/meta", pickle.dumps({"fine_label_names": names}, protocol=2))
    listing = workshop.listing("cifar")
    assert listing.class_names == names
    check(listing, "train", [images[0]], [99])
    check(listing, "test", [images[1]], [3])


class Evil:
    def __reduce__(self) -> Any:
        return Path("ran").touch, ()


@pytest.mark.parametrize("payload", [Evil(), {b"label_names": [Evil()]}])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused(workshop: Workshop, payload: object, protocol: int) -> None:
    workshop.write("cifar-10-batches-py/batches.meta", pickle.dumps(payload, protocol))
    with pytest.raises(UserError, match="not a pickle of arrays"):
        workshop.listing("cifar")
    assert not Path("ran").exists()


def test_a_pickle_that_asks_for_an_import_is_refused(workshop: Workshop) -> None:
    """Opcodes by hand: an import through a dotted name, and one through an allowed module."""
    for code in (b"cos\nsystem\n(S'touch ran'\ntR.", b"\x80\x04\x8c\x05numpy\x8c\x0asavez.__globals__\x93."):
        workshop.write("cifar-10-batches-py/batches.meta", code)
        with pytest.raises(UserError, match="not a pickle of arrays"):
            workshop.listing("cifar")
    assert not Path("ran").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_imagenet64(workshop: Workshop, protocol: int) -> None:
    """Labels count from 1; their order is that of map_clsloc.txt, not the sorted one."""
    images = np.stack([noise(64, 64, seed=i) for i in range(3)])
    rows = images.transpose(0, 3, 1, 2).reshape(3, -1)
    mean = rows.mean(axis=0)
    batch = [
        pickle.dumps({"data": rows[i : i + 1], "labels": [label], "mean": mean}, protocol)
        for i, label in enumerate((1, 1000, 2))
    ]
    workshop.write("Imagenet64_train_part1.zip", zip_of({"train_data_batch_1": batch[0]}))
    workshop.write("Imagenet64_train_part2.zip", zip_of({"train_data_batch_10": batch[1]}))
    workshop.write("Imagenet64_val.zip", zip_of({"val_data": batch[2]}))
    listing = workshop.listing("imagenet64")
    check(listing, "train", list(images[:2]), [0, 999])
    check(listing, "val", [images[2]], [1])
    assert listing.class_names == [str(i) for i in range(1, 1001)]
    lines = "".join(f"n{9000 - i:08d} {i} thing\n" for i in range(1, 1001))
    workshop.write("map_clsloc.txt", lines.encode())
    assert workshop.listing("imagenet64").class_names[:2] == ["n00008999", "n00008998"]


@pytest.mark.parametrize("fashion", [False, True])
def test_mnist(workshop: Workshop, fashion: bool) -> None:
    images = np.stack([noise(28, 28, 1, seed=i) for i in range(3)])
    for prefix, part, labels in (("train", images[:2], [7, 0]), ("t10k", images[2:], [9])):
        workshop.write(f"{prefix}-images-idx3-ubyte.gz", idx(part))
        workshop.write(f"{prefix}-labels-idx1-ubyte.gz", idx(np.array(labels)))
    listing = workshop.listing("mnist", fashion=fashion)
    assert listing.class_names[9] == ("Ankle boot" if fashion else "9")
    check(listing, "train", list(images[:2]), [7, 0])
    check(listing, "test", [images[2]], [9])


@pytest.mark.parametrize("name", ["{}.idx{}-ubyte", "{0}-idx{1}-ubyte/{0}-idx{1}-ubyte"])
def test_mnist_as_kaggle_names_it(workshop: Workshop, name: str) -> None:
    images = np.stack([noise(28, 28, 1, seed=i) for i in range(2)])
    for prefix in ("train", "t10k"):
        workshop.write(name.format(f"{prefix}-images", 3), gzip.decompress(idx(images)))
        workshop.write(name.format(f"{prefix}-labels", 1), gzip.decompress(idx(np.array([7, 0]))))
    check(workshop.listing("mnist"), "train", list(images), [7, 0])


@pytest.mark.parametrize(
    ("split", "labels"), [("letters", [1, 26]), ("byclass", [0, 61]), ("balanced", [0, 46])]
)
def test_emnist_images_are_turned_and_letters_count_from_0(
    workshop: Workshop, split: str, labels: list[int]
) -> None:
    """The oracle is torchvision's own EMNIST, which documents the same facts in its class lists."""
    from torchvision.datasets import EMNIST

    images = np.stack([noise(28, 28, 1, seed=i) for i in range(2)])
    content = {}
    for part in ("train", "test"):
        content[f"gzip/emnist-{split}-{part}-images-idx3-ubyte.gz"] = idx(images)
        content[f"gzip/emnist-{split}-{part}-labels-idx1-ubyte.gz"] = idx(np.array(labels))
    workshop.write("gzip.zip", zip_of(content))
    listing = workshop.listing("emnist", split=split)
    first = 1 if split == "letters" else 0
    check(listing, "train", [image.T for image in images], [label - first for label in labels])
    theirs = [name.upper() for name in EMNIST.classes_split_dict[split] if name != "N/A"]
    assert [name.upper() for name in listing.class_names] == theirs


def test_svhn_ten_is_zero(workshop: Workshop) -> None:
    images = np.stack([noise(32, 32, seed=i) for i in range(3)])
    for name, part, labels in (("train", images[:2], [10, 1]), ("test", images[2:], [9])):
        buffer = io.BytesIO()
        savemat(buffer, {"X": part.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]})
        workshop.write(f"{name}_32x32.mat", buffer.getvalue())
    listing = workshop.listing("svhn")
    check(listing, "train", list(images[:2]), [0, 1])
    check(listing, "test", [images[2]], [9])


def test_stl10(workshop: Workshop) -> None:
    images = np.stack([noise(96, 96, seed=i) for i in range(3)])
    stored = images.transpose(0, 3, 2, 1)  # colour, column, row
    content = {
        "stl10_binary/train_X.bin": stored[:2].tobytes(),
        "stl10_binary/train_y.bin": bytes([1, 10]),
        "stl10_binary/test_X.bin": stored[2:].tobytes(),
        "stl10_binary/test_y.bin": bytes([5]),
        "stl10_binary/unlabeled_X.bin": b"never read",
    }
    workshop.write("stl10_binary.tar.gz", tar_gz(content))
    listing = workshop.listing("stl10")
    check(listing, "train", list(images[:2]), [0, 9])
    check(listing, "test", [images[2]], [4])
