"""TinyImageNet: the official ``tiny-imagenet-200.zip`` without unpacking it, or its unpacked folder."""

from __future__ import annotations

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import zip_members
from pipeline.data.raw.blobs import Tree, below, is_image
from pipeline.data.raw.listing import Listing, Reader, Sample, Source, class_index, class_samples
from pipeline.data.raw.text import read_lines

TOP = "tiny-imagenet-200"


ANNOTATIONS = "val_annotations.txt"


def read(source: Source) -> Listing:
    """List the samples: 200 synsets, sorted. The official test images have no labels; val is the held-out split."""
    tree: Tree = source.files
    if f"{TOP}.zip" in tree:
        tree = zip_members(tree[f"{TOP}.zip"], f"{TOP}.zip")
    tree = below(tree, TOP) or tree
    train, val = below(tree, "train"), below(tree, "val")
    if not train or ANNOTATIONS not in val:
        raise UserError(f"{source.root}: no train folder or no val/{ANNOTATIONS}; {READER.files}")
    classes = class_index(train.folders)
    return Listing(
        list(classes), {"train": class_samples(train, "train", classes), "val": _val(val, classes)}
    )


def _val(val: Tree, classes: dict[str, int]) -> list[Sample]:
    fields = (line.split("\t") for line in read_lines(val[ANNOTATIONS], ANNOTATIONS))
    synsets = {field[0]: field[1] for field in fields if len(field) > 1}
    samples = []
    for name, blob in below(val, "images").items():
        if not is_image(name):
            continue
        synset = synsets.get(name)
        if synset not in classes:
            raise UserError(f"val/{ANNOTATIONS}: gives {name} the class {synset}, train has no such folder")
        samples.append(Sample(f"val/images/{name}", blob, classes[synset]))
    return samples


READER = Reader(read=read, files=f"put {TOP}.zip (cs231n.stanford.edu) into the root")
