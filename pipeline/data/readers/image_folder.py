"""A folder per class, in a folder per split: ImageNet's layout, and the generic one for an own dataset.

``<root>/train/<class>/<image>``, ``<root>/val/<class>/...`` and, where there is one, ``<root>/test/...``.
A root without split folders is read as one ``train`` split; `DatasetParams.val_fraction` then cuts ``val``
from it. The same tree inside one ``.tar`` or ``.zip`` is read without unpacking it.
"""

from __future__ import annotations

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_members, zip_members
from pipeline.data.raw.blobs import Tree, below, is_image
from pipeline.data.raw.listing import Listing, Reader, Source, class_index, class_samples

SPLITS = ("train", "val", "test")


def read(source: Source) -> Listing:
    """List the images of each class folder; classes are the folders of ``train``, sorted by name.

    Raises:
        UserError: no class folder, a class folder with no image, or a held-out class that train lacks.
    """
    tree = single_archive(source.files)
    splits = {split: below(tree, split) for split in SPLITS}
    if not splits["train"]:
        splits = {"train": dict(tree)}
    classes = class_index([name.split("/")[0] for name in splits["train"] if "/" in name])
    if not classes:
        raise UserError(
            f"{source.root}: no class folders, expected train/<class>/<image> and val/<class>/<image>; "
            "move the images into a folder per class"
        )
    samples = {name: class_samples(tree, name, classes) for name, tree in splits.items() if tree}
    return Listing(class_names=list(classes), splits=samples)


def single_archive(files: Tree) -> Tree:
    """The members of the archive when ``files`` is one tar or zip, below its top folder; else ``files``."""
    archives = [name for name in files if name.endswith((".tar", ".zip"))]
    if len(archives) != 1 or any(is_image(name) for name in files):
        return files
    name = archives[0]
    read_members = tar_members if name.endswith(".tar") else zip_members
    members = read_members(files[name], name)
    tops = {member.split("/")[0] for member in members}
    if len(tops) == 1 and not tops & set(SPLITS):
        return below(members, tops.pop())
    return members


READER = Reader(
    read=read,
    files="train/<class>/<image> and val/<class>/<image> (test/ too where there is one), or one .tar or .zip "
    "of that",
)
