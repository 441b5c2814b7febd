"""iNaturalist 2021, mini training set: the official ``.tar.gz`` files, their plain tars, or the folders."""

from __future__ import annotations

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Tree, below
from pipeline.data.raw.layout import read_archive
from pipeline.data.raw.listing import Listing, Reader, Source, class_index, class_samples

FOLDERS = {"train": "train_mini", "val": "val"}


def read(source: Source) -> Listing:
    """List the samples; classes are the folders (``00000_Animalia_...``), sorted.

    A ``.tar.gz`` has no random access: it is put as a plain tar into the scratch folder first, as large as
    itself since JPEGs hardly compress, and deleted when the shards are whole.
    """
    trees = {split: _tree(source, folder) for split, folder in FOLDERS.items()}
    classes = class_index(trees["train"].folders)
    return Listing(
        list(classes), {split: class_samples(tree, split, classes) for split, tree in trees.items()}
    )


def _tree(source: Source, folder: str) -> Tree:
    for name in (f"{folder}.tar.gz", f"{folder}.tar"):
        if name in source.files:
            return below(read_archive(source, name), folder)
    tree = below(source.files, folder)
    if not tree:
        raise UserError(f"{source.root}: no {folder}.tar.gz and no folder {folder}; {READER.files}")
    return tree


READER = Reader(
    read=read, files="put train_mini.tar.gz and val.tar.gz (github.com/visipedia/inat_comp) into the root"
)
