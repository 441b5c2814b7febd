"""A folder per class, in a folder per split: ImageNet's layout, and the generic one for an own dataset.

``<root>/train/<class>/<image>``, ``<root>/val/<class>/...`` and, where there is one, ``<root>/test/...``;
``valid``, ``Testing`` and the like are known too. A root without split folders is read as one ``train`` split;
`DatasetParams.val_fraction` then cuts ``val`` from it. The same tree inside one archive, an archive per split,
or one folder further down is read as well.
"""

from __future__ import annotations

from itertools import chain

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Tree, below, is_image
from pipeline.data.raw.layout import (
    account,
    describe,
    is_like_a_split,
    split_folders,
    split_of,
    unwrapped,
    with_archives,
)
from pipeline.data.raw.listing import Listing, Reader, Source, class_index, class_samples, normal_name


def read(source: Source) -> Listing:
    """List the images of each class folder; classes are the folders of ``train``, sorted by name.

    Raises:
        UserError: no class folder, a class folder with no image, a held-out class that train lacks, or folders of
            which it is not clear whether they are splits or classes.
    """
    everything = with_archives(source, _is_split)
    tree = unwrapped(everything, _is_split)
    splits = split_folders(tree, source.root)
    if not splits:
        _refuse_splits_as_classes(tree, source.root)
        trees = {"train": tree}
    elif "train" in splits:
        trees = _split_trees(tree, splits)
    else:
        raise UserError(f"{source.root}: no train folder among {describe(tree)}; {READER.files}")
    classes = class_index(trees["train"].folders)
    if not classes:
        raise UserError(f"{source.root}: no class folders, found {describe(tree)}; {READER.files}")
    samples = {split: class_samples(tree, split, classes) for split, tree in trees.items() if tree.folders}
    return Listing(list(classes), samples, passed_over=account(everything, chain(*samples.values())))


def _is_split(folder: str) -> bool:
    return split_of(folder) is not None


def _split_trees(tree: Tree, splits: dict[str, str]) -> dict[str, Tree]:
    """Return the class folders of each split."""
    trees = {"train": unwrapped(below(tree, splits["train"]), lambda _: False)}
    classes = {normal_name(name) for name in trees["train"].folders}
    for split, folder in splits.items():
        if split != "train":
            trees[split] = unwrapped(below(tree, folder), lambda name: normal_name(name) in classes)
    for split, folder in splits.items():
        names = trees[split].folders
        if names and all(is_like_a_split(name) for name in names):
            _refuse_splits_as_classes(trees[split], folder)
        _refuse_flat(trees[split], split, folder)
    return trees


def _refuse_flat(tree: Tree, split: str, folder: str) -> None:
    """Refuse a split of images without class folders; a test split like that has no labels and is passed over.

    Raises:
        UserError: names an image.
    """
    images = [name for name in tree if is_image(name)]
    if split != "test" and images and not tree.folders:
        raise UserError(
            f"{folder}: {len(images)} images lie in it without a class folder, e.g. {images[0]}; "
            f"expected {folder}/<class>/<image>, or a table of labels (reader csv)"
        )


def _refuse_splits_as_classes(tree: Tree, where: str) -> None:
    """Refuse class folders that are called like splits, or that hold folders called like splits.

    Raises:
        UserError: names the first one.
    """
    inner = {tuple(name.split("/")[:2]) for name in tree if name.count("/") > 1}
    like_splits = [name for name in tree.folders if is_like_a_split(name)]
    like_splits += sorted(f"{name}/{folder}" for name, folder in inner if _is_split(folder))
    if like_splits:
        raise UserError(
            f"{where}: the folder {like_splits[0]!r} is called like a split but lies where a class is expected, "
            f"found {describe(tree)}; expected train/<class>/<image> and val/<class>/<image>, "
            "or a folder per class and no splits"
        )


READER = Reader(
    read=read,
    files="put train/<class>/<image> and val/<class>/<image> (test/ too where there is one) into the root, "
    "or an archive of that, or one per split",
)
