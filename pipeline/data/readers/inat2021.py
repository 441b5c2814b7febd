"""iNaturalist 2021, mini training set: the official ``.tar.gz`` files, their plain tars, or the folders."""

from __future__ import annotations

import gzip
import shutil
import zlib

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_members
from pipeline.data.raw.blobs import Blob, Tree, below
from pipeline.data.raw.listing import Listing, Reader, Source, class_index, class_samples
from pipeline.data.raw.streams import open_stream

FOLDERS = {"train": "train_mini", "val": "val"}


def read(source: Source) -> Listing:
    """Classes are the folders (``00000_Animalia_...``), sorted.

    A ``.tar.gz`` has no random access: it is put as a plain tar into the scratch folder first, as large as
    itself since JPEGs hardly compress, and deleted when the shards are whole.
    """
    trees = {split: _tree(source, folder) for split, folder in FOLDERS.items()}
    classes = class_index([name.split("/")[0] for name in trees["train"]])
    return Listing(
        list(classes), {split: class_samples(tree, split, classes) for split, tree in trees.items()}
    )


def _tree(source: Source, folder: str) -> Tree:
    for name in (f"{folder}.tar.gz", f"{folder}.tar"):
        if name in source.files:
            blob = source.files[name]
            archive = _gunzipped(source, blob, name) if name.endswith(".gz") else blob
            return below(tar_members(archive, name), folder)
    tree = below(source.files, folder)
    if not tree:
        raise UserError(f"{source.root}: no {folder}.tar.gz and no folder {folder}; {READER.files}")
    return tree


def _gunzipped(source: Source, blob: Blob, name: str) -> Blob:
    plain = source.scratch / name.removesuffix(".gz")
    if not plain.exists():
        source.scratch.mkdir(parents=True, exist_ok=True)
        partial = plain.with_suffix(".partial")
        try:
            with open_stream(blob) as packed, gzip.open(packed) as stream, partial.open("wb") as target:
                shutil.copyfileobj(stream, target, 1 << 24)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{name}: not a whole gzip file ({error}); download it again") from None
        partial.replace(plain)
    return Blob(str(plain), 0, plain.stat().st_size, version=blob.version)


READER = Reader(
    read=read, files="put train_mini.tar.gz and val.tar.gz (github.com/visipedia/inat_comp) into the root"
)
