"""Names of the files that predictions are written to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

NAME_BYTES = 200
"""Of a name; file systems take 255, and a kind and a suffix follow."""


def result_names(images: Sequence[Path], out: Path) -> dict[Path, str]:
    """Return a file name for the results of each image, to which ``_mask.png`` for example is added.

    A name is made of the image's path: ``sub/b.png`` gives ``sub_b``. No two images share one, also where a file
    system takes ``A`` and ``a`` for the same, and no result in the folder ``out`` replaces one of the images.
    """
    here = out.resolve()
    inputs = [image.stem.casefold() for image in images if image.parent.resolve() == here]
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for image in images:
        if image in names:
            continue
        flat = "_".join(part for part in image.parts if part not in (image.anchor, "..", "."))
        stem = flat.removesuffix(image.suffix)
        for number in count():
            name = _shortened((stem, flat.replace(".", "_"))[number] if number < 2 else f"{stem}_{number}")
            key = name.casefold()
            if key not in taken and not any(other.startswith(f"{key}_") for other in inputs):
                break
        taken.add(key)
        names[image] = name
    return names


def _shortened(name: str) -> str:
    """Return ``name``, its end replaced by a digest where it is too long."""
    encoded = os.fsencode(name)
    if len(encoded) <= NAME_BYTES:
        return name
    return f"{encoded[: NAME_BYTES - 9].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"
