"""ImageNet-1K from the official tars, without unpacking them, from Kaggle's folders, or from the 64x64 pickles.

``ILSVRC2012_img_train.tar`` is a tar of one tar per class, ``ILSVRC2012_img_val.tar`` a flat one whose
classes are told by ``ILSVRC2012_devkit_t12.tar.gz`` (or Kaggle's ``LOC_val_solution.csv``, or a text file of
one synset per image). Kaggle has ``ILSVRC/Data/CLS-LOC/train/<synset>`` and a flat ``val``. Each may be unpacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from pipeline.core.errors import UserError, one_line
from pipeline.data.raw.archives import tar_gz_files, tar_members, zip_members
from pipeline.data.raw.arrays import Arrays, need, planes_to_pixels, staged
from pipeline.data.raw.blobs import Blob, Tree, below, is_image
from pipeline.data.raw.listing import Listing, Reader, Sample, Source, class_index
from pipeline.data.raw.matlab import load_mat
from pipeline.data.raw.pickles import load_pickle, numbers
from pipeline.data.raw.streams import open_stream
from pipeline.data.raw.text import read_lines

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"


TRAIN_FOLDERS = (TRAIN.removesuffix(".tar"), "CLS-LOC/train")


VAL_FOLDERS = (VAL.removesuffix(".tar"), "CLS-LOC/val")


KAGGLE, LIST = "LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt"


SMALL_SIDE = 64  # pixels


SMALL_CLASSES = 1000


MAX_BATCH_BYTES = 1 << 31
"""Of a pickle that is read into memory; the official train batches have 1.6 GB."""


def read(source: Source) -> Listing:
    """List the samples; classes are the synsets (``n01440764``), sorted.

    Raises:
        UserError: an archive is missing or damaged, or tells of other classes or images.
    """
    tree = _with_zips(source)
    folders = _train(tree, source.root)
    classes = class_index(folders)
    train = [
        Sample(f"train/{synset}/{name}", blob, classes[synset])
        for synset, members in folders.items()
        for name, blob in members.items()
        if is_image(name)
    ]
    return Listing(list(classes), {"train": train, "val": _val(tree, source.root, classes)})


def _with_zips(source: Source) -> Tree:
    """Return the files of ``source`` and the members of its zips: Kaggle's download is one."""
    tree = dict(source.files)
    for name, blob in source.files.items():
        if name.lower().endswith(".zip"):
            tree.update(zip_members(blob, name))
    return Tree(tree)


def _train(tree: Tree, root: str) -> dict[str, Tree]:
    """Return the members of each synset, from the tar of tars, its unpacked tars, or folders."""
    archive = next((blob for name, blob in tree.items() if f"/{name}".endswith(f"/{TRAIN}")), None)
    found = tar_members(archive, TRAIN) if archive else _folder(tree, TRAIN_FOLDERS)
    folders = {
        _synset(name): tar_members(blob, name) for name, blob in found.items() if name.endswith(".tar")
    }
    if not archive:
        if not found:
            raise UserError(f"{root}: no {TRAIN} and no folder of it; {READER.files}")
        synsets = {
            tuple(name.split("/", 1)): blob for name, blob in found.items() if is_image(name) and "/" in name
        }
        unpacked: dict[str, dict[str, Blob]] = {}
        for (synset, name), blob in synsets.items():
            unpacked.setdefault(synset, {})[name] = blob
        folders.update({synset: Tree(members) for synset, members in unpacked.items()})
    if not folders:
        raise UserError(f"{TRAIN}: holds no tar or folder per class; is it the archive of another dataset?")
    return folders


def _folder(tree: Tree, ends: Sequence[str]) -> Tree:
    """Return the tree below the first folder whose path ends in one of ``ends``."""
    for end in ends:
        for name in tree:
            before, found, _ = f"/{name}".partition(f"/{end}/")
            if found:
                return below(tree, f"{before}/{end}".lstrip("/"))
    return Tree({})


def _val(tree: Tree, root: str, classes: dict[str, int]) -> list[Sample]:
    archive = next((blob for name, blob in tree.items() if f"/{name}".endswith(f"/{VAL}")), None)
    members = tar_members(archive, VAL) if archive else _folder(tree, VAL_FOLDERS)
    images = {name: blob for name, blob in members.items() if is_image(name)}
    if not images:
        raise UserError(f"{root}: no {VAL} and no folder of it; {READER.files}")
    synsets = _val_synsets(tree, sorted(images), root)
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
    """Return the synset of each validation image by the stem of its name, from whichever map is there."""
    found = need(files, [DEVKIT, KAGGLE, LIST], root, "the classes of the val images are told by one of them")
    file = next(
        name for name in (DEVKIT, KAGGLE, LIST) if any(f"/{path}".endswith(f"/{name}") for path in files)
    )
    if file == KAGGLE:
        lines = (line.partition(",") for line in read_lines(found, KAGGLE)[1:])
        return {image: boxes.split()[0] for image, _, boxes in lines if boxes.split()}
    synsets = " ".join(read_lines(found, LIST)).split() if file == LIST else _devkit_synsets(found)
    stems = [image.rsplit("/", 1)[-1].split(".")[0] for image in images]
    if len(stems) != len(synsets):
        raise UserError(
            f"{VAL}: {len(stems)} images, {file} tells the class of {len(synsets)}; download again"
        )
    return dict(zip(stems, synsets, strict=True))


def _devkit_synsets(devkit: Blob) -> list[str]:
    """Return the synset per validation image, in the order of their names."""
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
    """List the samples of image-net.org's ``Imagenet64_*``: pickles in their zips or unpacked, labels from 1.

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
        names = _names_in_order(read_lines(files["map_clsloc.txt"], "map_clsloc.txt"))
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
    try:
        return [synset for _, synset in sorted((int(entry[1]), entry[0]) for entry in entries)]
    except (LookupError, ValueError) as error:
        raise UserError(
            f"map_clsloc.txt: not synsets and numbers ({one_line(error)}); download it again"
        ) from None


def _load_batch(blob: Blob, name: str) -> Arrays:
    with open_stream(blob) as stream:
        batch = load_pickle(stream.read(MAX_BATCH_BYTES), name)
    images = planes_to_pixels(batch.get("data"), SMALL_SIDE, name)
    return images, [label - 1 for label in numbers(batch.get("labels"), name)]


def _synset(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".tar")


READER = Reader(
    read=read,
    files=f"put {TRAIN}, {VAL} and {DEVKIT} (image-net.org, free account) into the root, or Kaggle's folder ILSVRC "
    f"with {KAGGLE}",
)


SMALL_READER = Reader(
    read=read_small,
    files="put Imagenet64_train_part1.zip, Imagenet64_train_part2.zip and Imagenet64_val.zip "
    "(image-net.org, free account) into the root",
)
