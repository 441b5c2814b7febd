"""Places-365 standard: the official small-image tars with their file lists, without unpacking them.

The "easy format" (``places365standard_easyformat.tar``, a folder per class) is read by ``image_folder``.
"""

from __future__ import annotations

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_members
from pipeline.data.raw.arrays import need
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.listing import Listing, Reader, Sample, Source
from pipeline.data.raw.text import read_lines

LISTS = "filelist_places365-standard.tar"


IMAGES = {
    "train": ("train_256_places365standard.tar", "train_large_places365standard.tar"),
    "val": ("val_256.tar", "val_large.tar"),
}


TRUTH = {"train": "places365_train_standard.txt", "val": "places365_val.txt"}


CATEGORIES = "categories_places365.txt"


def read(source: Source) -> Listing:
    """Return the 365 categories (``/a/airfield``) in their official order."""
    lists = tar_members(need(source.files, [LISTS], source.root, READER.files), LISTS)
    pairs = _pairs(need(lists, [CATEGORIES], LISTS, "download it again"))
    names = [name for name, _ in sorted(pairs, key=lambda pair: pair[1])]
    splits = {}
    for split, archives in IMAGES.items():
        archive = need(source.files, archives, source.root, READER.files)
        members = tar_members(archive, archives[0])
        images = {name.partition("/")[2]: blob for name, blob in members.items()}
        truth = _pairs(need(lists, [TRUTH[split]], LISTS, "download it again"))
        splits[split] = _samples(split, truth, images, len(names))
    return Listing(names, splits)


def _samples(split: str, truth: list[tuple[str, int]], images: dict[str, Blob], classes: int) -> list[Sample]:
    samples = []
    for path, label in truth:
        name = path.lstrip("/")
        if name not in images or not 0 <= label < classes:
            raise UserError(
                f"{TRUTH[split]}: names {path} of class {label}, which is no image of {IMAGES[split][0]} "
                f"or no class of 0 to {classes - 1}; are they of the same release?"
            )
        samples.append(Sample(f"{split}/{name}", images[name], label))
    return samples


def _pairs(blob: Blob) -> list[tuple[str, int]]:
    pairs = []
    for line in read_lines(blob, LISTS):
        name, _, number = line.rpartition(" ")
        if name and number.isdecimal() and len(number) < 10:
            pairs.append((name, int(number)))
    return pairs


READER = Reader(
    read=read,
    files=f"put {IMAGES['train'][0]}, {IMAGES['val'][0]} and {LISTS} (places2.csail.mit.edu) into the root",
)
