"""Cityscapes: the two official zips as they are, or their unpacked folders.

``leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png`` is paired with
``gtFine/<split>/<city>/<frame>_gtFine_labelIds.png``. The 34 label ids become the 19 train ids of the
benchmark, all others are ignored (cityscapesscripts, ``helpers/labels.py``).
"""

from __future__ import annotations

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import zip_members
from pipeline.data.raw.blobs import Tree, below, is_image
from pipeline.data.raw.listing import UNKNOWN, Labels, Listing, Reader, Sample, Source
from pipeline.data.shards.manifest import LeftOut
from pipeline.data.shards.targets import IGNORE

ZIPS = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")


IMAGE_END = "_leftImg8bit"


MASK_END = "_gtFine_labelIds.png"


CLASSES: tuple[tuple[int, str, tuple[int, int, int]], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
"""Label id, name and colour of each train id 0..18."""


LABEL_IDS = 34  # ids 0..33; the license plate's -1 is stored as 255


def labels() -> Labels:
    """Label ids to train ids: 19 classes, the other 15 ids and 255 ignored, the rest refused."""
    train_ids = [IGNORE] * LABEL_IDS + [UNKNOWN] * (256 - LABEL_IDS)
    train_ids[255] = IGNORE
    for train_id, (label_id, _, _) in enumerate(CLASSES):
        train_ids[label_id] = train_id
    return Labels(tuple(train_ids), tuple(colour for _, _, colour in CLASSES))


def read(source: Source) -> Listing:
    """Pair images and masks of the splits ``train`` and ``val``.

    Option ``test: true`` lists ``test`` as well; the official one has no labels, so it is off by default.

    Raises:
        UserError: no frames found.
    """
    images, masks = _trees(source.files)
    splits: dict[str, list[Sample]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    for split in ("train", "val", "test") if source.options.get("test") else ("train", "val"):
        splits[split], left_out[split] = _pair(below(images, split), below(masks, split), split)
    if not any(splits.values()) and not any(left_out.values()):
        raise UserError(
            f"{source.root}: no leftImg8bit/<split>/<city>/*{IMAGE_END}.png found; {READER.files}"
        )
    return Listing([name for _, name, _ in CLASSES], splits, labels(), left_out)


def _trees(files: Tree) -> tuple[Tree, Tree]:
    """Return the trees of images and of masks, below their split folders."""
    images, masks = (zip_members(files[name], name) if name in files else files for name in ZIPS)
    return below(images, "leftImg8bit"), below(masks, "gtFine")


def _pair(images: Tree, masks: Tree, split: str) -> tuple[list[Sample], list[LeftOut]]:
    samples, left_out = [], []
    for name, image in images.items():
        stem, end, _ = name.rpartition(IMAGE_END)
        if not end or not is_image(name):
            continue
        mask = masks.get(stem + MASK_END)
        if mask is None:
            left_out.append(
                LeftOut(name=f"{split}/{name}", reason=f"no mask gtFine/{split}/{stem}{MASK_END}")
            )
        else:
            samples.append(Sample(f"{split}/{name}", image, mask))
    return samples, left_out


READER = Reader(
    read=read,
    files=f"put {ZIPS[0]} and {ZIPS[1]} (cityscapes-dataset.com, free account) into the root, "
    "or their unpacked folders leftImg8bit and gtFine",
    options=frozenset({"test"}),
)
