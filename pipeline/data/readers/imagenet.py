"""ImageNet-1K from the official tars, without unpacking them, or from the official 64x64 pickles.

``ILSVRC2012_img_train.tar`` is a tar of one tar per class, ``ILSVRC2012_img_val.tar`` a flat one whose
classes are told by ``ILSVRC2012_devkit_t12.tar.gz`` (or Kaggle's ``LOC_val_solution.csv``, or a text file of
one synset per image). Unpacked folders per class are read by the reader ``image_folder``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from pipeline.core.errors import UserError, one_line
from pipeline.data.raw.archives import tar_gz_files, tar_members, zip_members
from pipeline.data.raw.arrays import Arrays, need, planes_to_pixels, staged
from pipeline.data.raw.blobs import Blob, Tree, is_image
from pipeline.data.raw.listing import Listing, Reader, Sample, Source, class_index
from pipeline.data.raw.matlab import load_mat
from pipeline.data.raw.pickles import load_pickle, numbers
from pipeline.data.raw.streams import open_stream

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"


KAGGLE, LIST = "LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt"


SMALL_SIDE = 64  # pixels


SMALL_CLASSES = 1000


MAX_BATCH_BYTES = 1 << 31
"""Of a pickle that is read into memory; the official train batches have 1.6 GB."""


def read(source: Source) -> Listing:
    """Classes are the synsets (``n01440764``), sorted.

    Raises:
        UserError: an archive is missing or damaged, or tells of other classes or images.
    """
    archive = need(source.files, [TRAIN], source.root, READER.files)
    class_tars = {name: blob for name, blob in tar_members(archive, TRAIN).items() if name.endswith(".tar")}
    if not class_tars:
        raise UserError(f"{TRAIN}: holds no tar per class; is it the archive of another dataset?")
    classes = class_index([_synset(name) for name in class_tars])
    train = [
        Sample(f"train/{_synset(tar)}/{name}", blob, classes[_synset(tar)])
        for tar, members in class_tars.items()
        for name, blob in tar_members(members, f"{TRAIN}/{tar}").items()
    ]
    return Listing(list(classes), {"train": train, "val": _val(source, classes)})


def _val(source: Source, classes: dict[str, int]) -> list[Sample]:
    archive = need(source.files, [VAL], source.root, READER.files)
    images = {name: blob for name, blob in tar_members(archive, VAL).items() if is_image(name)}
    synsets = _val_synsets(source.files, sorted(images), source.root)
    samples = []
    for name, blob in images.items():
        synset = synsets.get(name.rsplit("/", 1)[-1].split(".")[0])
        if synset not in classes:
            raise UserError(
                f"{VAL}: {name} has class {synset}, which is not among the {len(classes)} of {TRAIN}; "
                "are they of the same release?"
            )
        samples.append(Sample(f"val/{name}", blob, classes[synset]))
    return samples


def _val_synsets(files: Tree, images: list[str], root: str) -> dict[str, str]:
    """Synset of each validation image by the stem of its name, from whichever map is there."""
    found = need(files, [DEVKIT, KAGGLE, LIST], root, "the classes of the val images are told by one of them")
    file = found.file.rsplit("/", 1)[-1]
    if file == KAGGLE:
        lines = (line.split(",") for line in found.read().decode().splitlines()[1:])
        return {image: boxes.split()[0] for image, boxes in lines}
    synsets = found.read().decode().split() if file == LIST else _devkit_synsets(found)
    stems = [image.rsplit("/", 1)[-1].split(".")[0] for image in images]
    if len(stems) != len(synsets):
        raise UserError(
            f"{VAL}: {len(stems)} images, {file} tells the class of {len(synsets)}; download again"
        )
    return dict(zip(stems, synsets, strict=True))


def _devkit_synsets(devkit: Blob) -> list[str]:
    """Synset per validation image, in the order of their names."""
    truth = "ILSVRC2012_validation_ground_truth.txt"
    content = tar_gz_files(devkit, DEVKIT, lambda name: name in (truth, "meta.mat"))
    if len(content) < 2:
        raise UserError(f"{DEVKIT}: no meta.mat or no {truth} in it; download it again")
    records = load_mat(content["meta.mat"], {"synsets"}, "meta.mat", {"ILSVRC2012_ID", "WNID"})["synsets"]
    try:
        synset = {int(record["ILSVRC2012_ID"].item()): str(record["WNID"]) for record in records}
        return [synset[int(line)] for line in content[truth].split()]
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{DEVKIT}: not the devkit's tables ({one_line(error)}); download it again") from None


def read_small(source: Source) -> Listing:
    """image-net.org's downsampled ``Imagenet64_*``: pickles in their zips or unpacked, labels from 1.

    Their class order is not that of the sorted synsets. With ``map_clsloc.txt`` beside them classes carry
    their synsets, without it their numbers.
    """
    files: dict[str, Blob] = {}
    for name, blob in source.files.items():
        members = zip_members(blob, name) if name.endswith(".zip") else {name: blob}
        files.update({member.rsplit("/", 1)[-1]: found for member, found in members.items()})
    batches = {
        "train": sorted(name for name in files if name.startswith("train_data_batch")),
        "val": sorted(name for name in files if name.startswith("val_data")),
    }
    if not all(batches.values()):
        raise UserError(f"{source.root}: no train_data_batch_* or no val_data; {SMALL_READER.files}")
    names = [str(i) for i in range(1, SMALL_CLASSES + 1)]
    if "map_clsloc.txt" in files:
        names = _names_in_order(files["map_clsloc.txt"].read().decode().splitlines())
    splits = {
        split: [
            sample
            for name in parts
            for sample in staged(source, name, partial(_load_batch, files[name], name), len(names))
        ]
        for split, parts in batches.items()
    }
    return Listing(names, splits)


def _names_in_order(lines: Iterable[str]) -> list[str]:
    entries = (line.split() for line in lines if line.strip())
    return [synset for _, synset in sorted((int(entry[1]), entry[0]) for entry in entries)]


def _load_batch(blob: Blob, name: str) -> Arrays:
    with open_stream(blob) as stream:
        batch = load_pickle(stream.read(MAX_BATCH_BYTES), name)
    images = planes_to_pixels(batch.get("data"), SMALL_SIDE, name)
    return images, [label - 1 for label in numbers(batch.get("labels"), name)]


def _synset(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".tar")


READER = Reader(
    read=read,
    files=f"put {TRAIN}, {VAL} and {DEVKIT} (image-net.org, free account) into the root",
)


SMALL_READER = Reader(
    read=read_small,
    files="put Imagenet64_train_part1.zip, Imagenet64_train_part2.zip and Imagenet64_val.zip "
    "(image-net.org, free account) into the root",
)
