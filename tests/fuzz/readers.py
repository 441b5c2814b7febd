"""Raw files of every reader: listed, and each sample decoded, as `prepare` does it."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import decode_mask, to_train_ids
from pipeline.data.imaging.resize import Resizer
from pipeline.data.raw.blobs import list_files
from pipeline.data.raw.listing import Options, Sample, Source
from pipeline.data.raw.splits import with_val_split
from pipeline.data.readers import READERS, read
from tests.fuzz.base import Files, Format, Part
from tests.fuzz.mend import tar_checksums, tar_gz
from tests.pipeline.data.readers.raw import tar_of, zip_of
from tests.pipeline.workshop import noise, png

SIZE = (8, 8)
DECODED = 12
"""Samples of a split that are decoded."""

_gzip = partial(gzip.compress, compresslevel=1)
_stored = partial(zip_of, method=zipfile.ZIP_STORED)


def _image(seed: int, side: int = 7) -> bytes:
    return png(noise(side, side + 2, seed=seed))


def _mask(seed: int) -> bytes:
    return png(noise(7, 9, 1, seed=seed) % 3)


def _classes() -> dict[str, bytes]:
    return {
        f"{split}/{name}/{i}.png": _image(i)
        for split in ("train", "val")
        for name in ("cat", "dog")
        for i in range(2)
    }


def image_folders() -> list[Files]:
    """The tree as files, in a tar, in a compressed tar, in zips."""
    tree = _classes()
    tar = tar_of(tree)
    return [
        {"data.tar": Part(tar, tar_checksums)},
        {"data.tar.gz": Part(tar, tar_gz)},
        {"data.zip": Part(zip_of(tree))},
        {"data.zip": Part(_stored(tree))},
    ]


def mask_folders() -> list[Files]:
    pairs = {"images/train/a.png": _image(0), "images/val/b.png": _image(1)}
    pairs |= {"masks/train/a.png": _mask(0), "masks/val/b.png": _mask(1)}
    return [
        {name: Part(content) for name, content in pairs.items()},
        {"data.tar": Part(tar_of(pairs), tar_checksums)},
        {"data.zip": Part(zip_of(pairs))},
    ]


def _batch(images: NDArray[np.uint8], labels: list[int], key: str, protocol: int) -> bytes:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({key.encode(): labels, b"data": rows, b"batch_label": b"x"}, protocol)


def cifar() -> list[Files]:
    """CIFAR-100 unpacked, CIFAR-10 in its archive."""
    names = pickle.dumps({b"fine_label_names": [f"fine{i}".encode() for i in range(100)]}, 2)
    small = noise(32, 32)[None]
    train, test = (_batch(small, [label], "fine_labels", 2) for label in (99, 3))
    ten: dict[str, bytes] = {f"data_batch_{i}": _batch(small, [i], "labels", 2) for i in range(1, 6)}
    ten |= {"test_batch": _batch(small, [0], "labels", 2)}
    ten |= {"batches.meta": pickle.dumps({b"label_names": [f"c{i}".encode() for i in range(10)]}, 2)}
    return [
        {"train": Part(train), "test": Part(test), "meta": Part(names)},
        {"meta": Part(names), "train": Part(train), "test": test},
        {"cifar-10-python.tar.gz": Part(tar_of({f"batches/{k}": v for k, v in ten.items()}), tar_gz)},
    ]


def imagenet64() -> list[Files]:
    files: list[Files] = []
    for protocol in (2, 4):
        data = noise(64, 64)[None].transpose(0, 3, 1, 2).reshape(1, -1)
        batch = pickle.dumps({"labels": [1], "mean": data.mean(axis=0), "data": data}, protocol)
        files.append({"train_data_batch_1": Part(batch), "val_data": Part(batch)})
        archive = Part(zip_of({"train_data_batch_1": batch}))
        files.append(
            {"Imagenet64_train_part1.zip": archive, "val_data": batch, "map_clsloc.txt": Part(_map())}
        )
    return files


def _map() -> bytes:
    return "".join(f"n{i:08d} {i} thing\n" for i in range(1, 1001)).encode()


def _idx(array: NDArray[np.uint8]) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _idx_files(prefixes: Sequence[str], labels: Sequence[int]) -> dict[str, bytes]:
    images = np.stack([noise(28, 28, 1, seed=i) for i in range(2)])
    files = {}
    for prefix in prefixes:
        files[f"{prefix}-images-idx3-ubyte"] = _idx(images)
        files[f"{prefix}-labels-idx1-ubyte"] = _idx(np.array(labels, np.uint8))
    return files


def mnist() -> list[Files]:
    files = _idx_files(("train", "t10k"), (7, 0))
    return [
        {name: Part(content) for name, content in files.items()},
        {f"{name}.gz": Part(content, _gzip) for name, content in files.items()},
    ]


def emnist() -> list[Files]:
    files = _idx_files(("emnist-letters-train", "emnist-letters-test"), (26, 1))
    packed = {f"gzip/{name}.gz": _gzip(content) for name, content in files.items()}
    return [
        {f"{name}.gz": Part(content, _gzip) for name, content in files.items()},
        {"gzip.zip": Part(zip_of(packed))},
    ]


def _mat(**values: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, values, do_compression=values.pop("compressed", False))
    return buffer.getvalue()


def svhn() -> list[Files]:
    images = np.stack([noise(32, 32, seed=i) for i in range(2)]).transpose(1, 2, 3, 0)
    labels = np.array([[10], [1]], np.uint8)
    return [
        {
            f"{split}_32x32.mat": Part(_mat(X=images, y=labels, compressed=compressed))
            for split in ("train", "test")
        }
        for compressed in (False, True)
    ]


def stl10() -> list[Files]:
    stored = noise(96, 96)[None].transpose(0, 3, 2, 1).tobytes()
    files = {"train_X.bin": stored, "train_y.bin": b"\x0a", "test_X.bin": stored, "test_y.bin": b"\x01"}
    packed = tar_of({f"stl10_binary/{name}": content for name, content in files.items()})
    return [
        {name: Part(content) for name, content in files.items()},
        {"stl10_binary.tar.gz": Part(packed, tar_gz)},
    ]


def imagenet() -> list[Files]:
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(1, "n02", "dog", 0), (2, "n01", "cat", 0), (1001, "n00", "animal", 2)], dtype=kinds)
    meta = _mat(synsets=synsets.reshape(-1, 1))
    truth = b"1\n2\n"
    train = tar_of({f"n0{i}.tar": tar_of({f"n0{i}_1.JPEG": _image(i)}) for i in (1, 2)})
    names = [f"ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2)]
    val = tar_of({name: _image(0) for name in names})
    tars: Files = {
        "ILSVRC2012_img_train.tar": Part(train, tar_checksums),
        "ILSVRC2012_img_val.tar": Part(val, tar_checksums),
    }
    kaggle = f"ImageId,PredictionString\n{names[0][:-5]},n01 1 2 3 4 \n{names[1][:-5]},n02 1 2 3 4\n".encode()

    def devkit(mat: bytes) -> bytes:
        data = "ILSVRC2012_devkit_t12/data"
        content = {f"{data}/meta.mat": mat, f"{data}/ILSVRC2012_validation_ground_truth.txt": truth}
        return tar_gz(tar_of(content))

    return [
        {**genuine_tars(tars), "ILSVRC2012_devkit_t12.tar.gz": Part(meta, devkit)},
        {**tars, "LOC_val_solution.csv": Part(kaggle)},
        {**tars, "imagenet_2012_validation_synset_labels.txt": Part(b"n02\nn01\n")},
    ]


def genuine_tars(files: Files) -> dict[str, bytes]:
    """Return ``files`` as bytes that stay as they are."""
    return {name: part.file if isinstance(part, Part) else part for name, part in files.items()}


def tiny_imagenet() -> list[Files]:
    top = "tiny-imagenet-200"
    tree = {f"{top}/train/n0{i}/images/n0{i}_0.JPEG": _image(i) for i in (1, 2)}
    tree |= {f"{top}/val/images/val_{i}.JPEG": _image(i) for i in range(2)}
    notes = f"{top}/val/val_annotations.txt"
    lines = b"val_0.JPEG\tn01\t0\t0\t62\t62\nval_1.JPEG\tn02\t0\t0\t62\t62\n"
    return [{f"{top}.zip": Part(zip_of(tree | {notes: lines}))}, {**tree, notes: Part(lines)}]


def inat2021() -> list[Files]:
    trees = {
        folder: tar_of({f"{folder}/0000{i}_Animalia/{i}.jpg": _image(i) for i in range(2)})
        for folder in ("train_mini", "val")
    }
    return [
        {f"{folder}.tar.gz": Part(tar, tar_gz) for folder, tar in trees.items()},
        {f"{folder}.tar": Part(tar, tar_checksums) for folder, tar in trees.items()},
    ]


def places365() -> list[Files]:
    categories = "".join(f"/c/name{i} {i}\n" for i in range(3)).encode()
    truth = {
        "places365_train_standard.txt": b"/c/name0/1.jpg 0\n/c/name1/2.jpg 1\n",
        "places365_val.txt": b"v.jpg 2\n",
    }
    lists = tar_of({"categories_places365.txt": categories, **truth})
    train = tar_of({"data_256/c/name0/1.jpg": _image(1), "data_256/c/name1/2.jpg": _image(2)})
    return [
        {
            "filelist_places365-standard.tar": Part(lists, tar_checksums),
            "train_256_places365standard.tar": Part(train, tar_checksums),
            "val_256.tar": Part(tar_of({"val_256/v.jpg": _image(3)}), tar_checksums),
        }
    ]


def cityscapes() -> list[Files]:
    frames, masks = {}, {}
    for split in ("train", "val"):
        stem = f"{split}/ulm/a_1"
        frames[f"leftImg8bit/{stem}_leftImg8bit.png"] = _image(1)
        masks[f"gtFine/{stem}_gtFine_labelIds.png"] = _mask(1)
    return [
        {
            "leftImg8bit_trainvaltest.zip": Part(zip_of(frames)),
            "gtFine_trainvaltest.zip": Part(zip_of(masks)),
        },
        {name: Part(content) for name, content in (frames | masks).items()},
    ]


def csv_tables() -> list[Files]:
    images = {f"{split}/{i}.png": _image(i) for split in ("train", "val") for i in range(2)}
    rows = "".join(f"{name},{'cat' if '0' in name else 'dog'},{name.split('/')[0]}\n" for name in images)
    return [{**images, "labels.csv": Part(b"image,label,split\n" + rows.encode())}]


def parquet_files() -> list[Files]:
    """A file per split, as the hub has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files: dict[str, Part] = {}
    for split in ("train", "val"):
        images = [{"bytes": _image(i), "path": f"{i}.png"} for i in range(3)]
        buffer = io.BytesIO()
        pq.write_table(pa.table({"image": images, "label": [0, 1, 0]}), buffer)
        files[f"data/{split}-00000-of-00001.parquet"] = Part(buffer.getvalue())
    return [files]


def webdataset_tars() -> list[Files]:
    files: dict[str, Part] = {}
    for split in ("train", "val"):
        content: dict[str, bytes] = {}
        for i in range(2):
            content |= {f"{i:06d}.png": _image(i), f"{i:06d}.cls": str(i).encode()}
        files[f"own-{split}-000000.tar"] = Part(tar_of(content), tar_checksums)
    return [files]


def _use(folder: Path, reader: str, options: Options) -> None:
    files = list_files(str(folder))
    scratch = Path(mkdtemp(prefix=".scratch-", dir=folder))  # arrays are mapped once per path
    source = Source(str(folder), files, scratch, options)
    listing = with_val_split(read(reader, source), 0, "fuzz")
    resizer = Resizer(3, "box", "squash")
    classes = len(listing.class_names)
    for samples in listing.splits.values():
        for sample in samples[:DECODED]:
            _check_target(sample, classes)
            with suppress(CorruptImageError, OSError):  # a bad file costs itself only
                image = sample.image.read()
                pixels = (
                    resizer.decode(image, (SIZE,))[0] if isinstance(image, bytes) else resizer.convert(image)
                )
                resizer.resize(pixels, SIZE)
                if listing.labels is not None and not isinstance(sample.target, int | tuple):
                    to_train_ids(decode_mask(sample.target.read()), listing.labels)


def _check_target(sample: Sample, classes: int) -> None:
    indices = (sample.target,) if isinstance(sample.target, int) else sample.target
    if isinstance(indices, tuple):
        assert all(0 <= index < classes for index in indices), f"{sample.name} has the class {indices}"


GENUINE: dict[str, tuple[Callable[[], list[Files]], Options]] = {
    "image_folder": (image_folders, {}),
    "mask_folder": (mask_folders, {"classes": "a, b, c"}),
    "cifar": (cifar, {}),
    "imagenet64": (imagenet64, {}),
    "mnist": (mnist, {}),
    "emnist": (emnist, {"split": "letters"}),
    "svhn": (svhn, {}),
    "stl10": (stl10, {}),
    "imagenet": (imagenet, {}),
    "tiny_imagenet": (tiny_imagenet, {}),
    "inat2021": (inat2021, {}),
    "places365": (places365, {}),
    "cityscapes": (cityscapes, {}),
    "csv": (csv_tables, {}),
    "parquet": (parquet_files, {}),
    "webdataset": (webdataset_tars, {}),
}
"""Files and options by the name of the reader; a new reader needs an entry."""

FORMATS = {
    name: Format(GENUINE[name][0], partial(_use, reader=name, options=GENUINE[name][1])) for name in READERS
}
