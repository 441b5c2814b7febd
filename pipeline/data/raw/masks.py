"""Masks whose pixels are class ids from 0: their classes as options give them."""

from __future__ import annotations

import colorsys

from pipeline.core.errors import UserError
from pipeline.data.raw.listing import UNKNOWN, Labels, Source
from pipeline.data.shards.targets import IGNORE


def class_options(source: Source) -> tuple[list[str], int]:
    """Return the options ``classes`` and ``ignore`` of a reader of masks.

    Raises:
        UserError: a value that is not allowed.
    """
    names = [name.strip() for name in str(source.options.get("classes", "")).split(",") if name.strip()]
    ignore = source.options.get("ignore", IGNORE)
    if not 1 <= len(names) <= IGNORE or not isinstance(ignore, int) or not 0 <= ignore <= 255:
        raise UserError(
            "options.classes: the class names of the ids 0, 1, ... joined by commas are needed "
            f"(1 to {IGNORE} of them, options.ignore an id 0 to 255); got {source.options}"
        )
    return names, ignore


def mask_labels(classes: int, ignore: int) -> Labels:
    """Return labels whose train ids are the ids in the masks, and a palette of distinct hues."""
    train_ids = [*range(classes), *[UNKNOWN] * (256 - classes)]
    train_ids[ignore] = IGNORE
    golden = 0.618034  # turns of the colour circle: neighbours in number lie far apart in hue
    colours = [colorsys.hsv_to_rgb(i * golden % 1, 0.55 + 0.4 * (i % 2), 0.9) for i in range(classes)]
    return Labels(tuple(train_ids), tuple((int(r * 255), int(g * 255), int(b * 255)) for r, g, b in colours))
