"""The generic layout for an own segmentation dataset: a folder of images and one of masks, per split.

``<root>/images/<split>/<name>.jpg`` is paired with ``<root>/masks/<split>/<name>.png`` (or
``<name>_mask.png`` and the like), whose pixels are class ids from 0 (8-bit grey, or palette indices); sub-folders
are allowed. ``<root>/<split>/images`` and ``<root>/<split>/masks`` are read too. Without split folders all is
``train``.
"""

from __future__ import annotations

from itertools import chain
from pathlib import PurePosixPath

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Blob, Tree, below, is_image
from pipeline.data.raw.layout import account, describe, split_folders, split_of, unwrapped, with_archives
from pipeline.data.raw.listing import Listing, Reader, Sample, Source
from pipeline.data.raw.masks import mask_classes
from pipeline.data.shards.manifest import LeftOut

IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages"})


MASK_FOLDERS = frozenset(
    {
        "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "gt", "ground_truth",
        "groundtruth", "targets", "segmentationclass", "segmentations",
    }
)  # fmt: skip


MASK_ENDINGS = (
    "_mask",
    "-mask",
    "_masks",
    "_label",
    "_labels",
    "_labelids",
    "_seg",
    "_segmentation",
    "_gt",
    "_l",
)
"""What is put behind an image's name to name its mask, in lower case."""


Pair = tuple[str, Tree, Tree]
"""The folder of a split's masks for messages, its images, its masks."""


def read(source: Source) -> Listing:
    """List the samples.

    Options: those of `mask_classes`; ``suffix``, what is put behind an image's name to name its mask, where it is none
    of `MASK_ENDINGS`; ``image_suffix``, what the names of images have in its place (``a_sat.jpg``, ``a_mask.png``).

    Raises:
        UserError: no class names, no images, no masks, or two images or masks of one name.
    """
    names, labels = mask_classes(source)
    suffixes = str(source.options.get("image_suffix", "")), str(source.options.get("suffix", ""))
    everything = with_archives(source, _is_content)
    tree = unwrapped(everything, _is_content)
    splits: dict[str, list[Sample]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    lost: list[Blob] = []
    for split, (where, images, masks) in _split_pairs(tree, source.root).items():
        splits[split], left_out[split], unpaired = _pair(images, masks, split, where, suffixes)
        lost += unpaired
    if not any(splits.values()) and not any(left_out.values()):
        raise UserError(f"{source.root}: no images among {describe(tree)}; {READER.files}")
    passed_over = account(everything, chain(*splits.values()), lost)
    return Listing(names, splits, labels, left_out, passed_over)


def _is_content(folder: str) -> bool:
    return split_of(folder) is not None or folder.casefold() in IMAGE_FOLDERS | MASK_FOLDERS


def _split_pairs(tree: Tree, root: str) -> dict[str, Pair]:
    """Return images and masks of each split.

    Raises:
        UserError: no folder of images or of masks, or several.
    """
    if not any(folder.casefold() in IMAGE_FOLDERS for folder in tree.folders):
        splits = split_folders(tree, root)
        if not splits:
            raise UserError(f"{root}: no folder images among {describe(tree)}; {READER.files}")
        return {
            split: _image_and_mask_folders(below(tree, folder), folder) for split, folder in splits.items()
        }
    where, images, masks = _image_and_mask_folders(tree, root)
    image_splits, mask_splits = split_folders(images, f"{root}/images"), split_folders(masks, where)
    if not image_splits:
        return {"train": (where, images, masks)}
    return {
        split: (
            f"{where}/{mask_splits.get(split, folder)}",
            below(images, folder),
            below(masks, mask_splits.get(split, folder)),
        )
        for split, folder in image_splits.items()
    }


def _image_and_mask_folders(tree: Tree, where: str) -> Pair:
    found = []
    for known, example in ((IMAGE_FOLDERS, "images"), (MASK_FOLDERS, "masks")):
        candidates = [
            folder
            for folder in tree.folders
            if folder.casefold() in known and any(map(is_image, below(tree, folder)))
        ]
        if len(candidates) != 1:
            got = " and ".join(candidates) or f"{describe(tree)}, none of which is called {example}"
            raise UserError(f"{where}: expected one folder of {example}, found {got}; {READER.files}")
        found.append(candidates[0])
    return found[1], below(tree, found[0]), below(tree, found[1])


def _pair(
    images: Tree, masks: Tree, split: str, where: str, suffixes: tuple[str, str]
) -> tuple[list[Sample], list[LeftOut], list[Blob]]:
    """Return the samples of a split, the images without a mask, and the blobs of those."""
    of_images, of_masks = suffixes
    image_of, mask_of = _by_stem(images, f"images of {split}", of_images), _by_stem(masks, where, of_masks)
    for stem in sorted(mask_of.keys() - image_of.keys()) if not of_masks else ():
        _rename(mask_of, stem, where)
    samples, left_out, unpaired = [], [], []
    for stem, (name, image) in image_of.items():
        if stem in mask_of:
            samples.append(Sample(f"{split}/{name}", image, mask_of[stem][1]))
        else:
            left_out.append(LeftOut(name=f"{split}/{name}", reason=f"no mask {where}/{stem}{of_masks}.png"))
            unpaired.append(image)
    return samples, left_out, unpaired


def _rename(mask_of: dict[str, tuple[str, Blob]], stem: str, where: str) -> None:
    """Let the mask ``stem``, which is called like no image, be that of the image it is called after."""
    ending = next((ending for ending in MASK_ENDINGS if stem.lower().endswith(ending)), None)
    if ending is None:
        return
    short = stem[: -len(ending)]
    if short in mask_of:
        raise UserError(
            f"{where}: {mask_of[short][0]} and {mask_of[stem][0]} are masks of one image; keep one"
        )
    mask_of[short] = mask_of.pop(stem)


def _by_stem(tree: Tree, where: str, suffix: str) -> dict[str, tuple[str, Blob]]:
    """Return the images of ``tree`` by name without extension and ``suffix``; those without the suffix are no part."""
    found: dict[str, tuple[str, Blob]] = {}
    for name, blob in tree.items():
        if not is_image(name):
            continue
        stem = str(PurePosixPath(name).with_suffix(""))
        if not stem.endswith(suffix):
            continue
        stem = stem.removesuffix(suffix)
        if stem in found:
            raise UserError(f"{where}: {found[stem][0]} and {name} have one name; keep one of them")
        found[stem] = (name, blob)
    return found


READER = Reader(
    read=read,
    files="put images/<split>/<name>.jpg and masks/<split>/<name>.png, or <split>/images and <split>/masks, into "
    "the root (splits train, val and, maybe, test), or an archive of that",
    options=frozenset({"classes", "colours", "ignore", "suffix", "image_suffix"}),
)
