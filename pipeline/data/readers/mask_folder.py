"""The generic layout for an own segmentation dataset: a folder of images and one of masks, per split.

``<root>/images/<split>/<name>.jpg`` is paired with ``<root>/masks/<split>/<name>.png``, whose pixels are
class ids from 0 (8-bit grey, or palette indices); sub-folders are allowed. Without
split folders all is ``train``.
"""

from __future__ import annotations

import colorsys
from pathlib import PurePosixPath

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Blob, Tree, below, is_image
from pipeline.data.raw.listing import UNKNOWN, Labels, Listing, Reader, Sample, Source
from pipeline.data.shards.manifest import LeftOut
from pipeline.data.shards.targets import IGNORE

SPLITS = ("train", "val", "test")


def read(source: Source) -> Listing:
    """Option ``classes``: names of the ids 0, 1, ... joined by commas; ``ignore``: an id to ignore (255).

    Raises:
        UserError: no class names, no images, or two images or masks of one name.
    """
    names = [name.strip() for name in str(source.options.get("classes", "")).split(",") if name.strip()]
    ignore = source.options.get("ignore", IGNORE)
    if not 1 <= len(names) <= IGNORE or not isinstance(ignore, int) or not 0 <= ignore <= 255:
        raise UserError(
            "options.classes: the class names of the ids 0, 1, ... joined by commas are needed "
            f"(1 to {IGNORE} of them, options.ignore an id 0 to 255); got {source.options}"
        )
    images, masks = below(source.files, "images"), below(source.files, "masks")
    splits: dict[str, list[Sample]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    for split in [split for split in SPLITS if below(images, split)] or [""]:
        name = split or "train"
        mine, theirs = (below(tree, split) if split else tree for tree in (images, masks))
        splits[name], left_out[name] = _pair(mine, theirs, name)
    if not any(splits.values()) and not any(left_out.values()):
        raise UserError(f"{source.root}: no images/<split>/* found; {READER.files}")
    return Listing(names, splits, _labels(len(names), ignore), left_out)


def _labels(classes: int, ignore: int) -> Labels:
    train_ids = [*range(classes), *[UNKNOWN] * (256 - classes)]
    train_ids[ignore] = IGNORE
    golden = 0.618034  # turns of the colour circle: neighbours in number lie far apart in hue
    colours = [colorsys.hsv_to_rgb(i * golden % 1, 0.55 + 0.4 * (i % 2), 0.9) for i in range(classes)]
    return Labels(tuple(train_ids), tuple((int(r * 255), int(g * 255), int(b * 255)) for r, g, b in colours))


def _pair(images: Tree, masks: Tree, split: str) -> tuple[list[Sample], list[LeftOut]]:
    mask_of = _by_stem(masks, f"masks/{split}")
    samples, left_out = [], []
    for stem, (name, image) in _by_stem(images, f"images/{split}").items():
        if stem in mask_of:
            samples.append(Sample(f"{split}/{name}", image, mask_of[stem][1]))
        else:
            left_out.append(LeftOut(name=f"{split}/{name}", reason=f"no mask masks/{split}/{stem}.png"))
    return samples, left_out


def _by_stem(tree: Tree, where: str) -> dict[str, tuple[str, Blob]]:
    found: dict[str, tuple[str, Blob]] = {}
    for name, blob in tree.items():
        if not is_image(name):
            continue
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in found:
            raise UserError(f"{where}: {found[stem][0]} and {name} have one name; keep one of them")
        found[stem] = (name, blob)
    return found


READER = Reader(
    read=read,
    files="images/<split>/<name>.jpg and masks/<split>/<name>.png, splits train, val and, maybe, test",
    options=frozenset({"classes", "ignore"}),
)
