"""Datasets whose images lie in arrays: read once, put into ``.npy`` files in the scratch folder, then mapped.

So no worker ever holds a whole dataset, and images are read by index like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Blob, Tree
from pipeline.data.raw.listing import Row, Sample, Source
from pipeline.data.raw.pickles import PickledArray

Arrays = tuple[NDArray[np.uint8], Sequence[int]]
"""Images uint8 (N, H, W) or (N, H, W, 3) and N class indices."""


def staged(source: Source, name: str, load: Callable[[], Arrays], classes: int) -> list[Sample]:
    """Return samples ``<name>[<index>]`` of the arrays that ``load`` gives; they are loaded once per scratch folder.

    Raises:
        UserError: not one label per image, a label outside 0..``classes`` - 1, or images not uint8.
    """
    version = source.version
    file = source.scratch / f"{name}-{version[:16]}.npy"
    labels_file = file.with_suffix(".labels.npy")
    if not labels_file.exists():
        images, labels = load()
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
            raise UserError(
                f"{name}: got {images.dtype} images {images.shape} and {len(labels)} labels, "
                "expected uint8 images and one label each; download it again"
            )
        for path, array in ((file, images), (labels_file, np.asarray(labels, np.int64))):
            with atomic_file(path) as partial, partial.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
    found = np.load(labels_file, allow_pickle=False)
    if found.size and not (found.min() >= 0 and found.max() < classes):
        raise UserError(
            f"{name}: labels from {found.min()} to {found.max()}, expected 0 to {classes - 1}; "
            "is it the file of another dataset?"
        )
    return [
        Sample(f"{name}[{i}]", Row(str(file), i, version), label) for i, label in enumerate(found.tolist())
    ]


def need(files: Tree, names: Sequence[str], root: str, hint: str) -> Blob:
    """Return the first of ``names`` (or a path ending in it) among ``files``.

    Raises:
        UserError: none is there.
    """
    for name in names:
        for path, blob in files.items():
            if path == name or path.endswith("/" + name):
                return blob
    raise UserError(f"{root}: no {' or '.join(names)}; {hint}")


def planes_to_pixels(array: Any, side: int, name: str) -> NDArray[np.uint8]:
    """Return a pickled array of rows of ``3 * side * side`` values, colour by colour, as uint8 (N, side, side, 3).

    Raises:
        UserError: rows of another length or type, or not as many as the array says.
    """
    length = 3 * side * side
    if (
        not isinstance(array, PickledArray)
        or (array.dtype, array.fortran) != ("u1", False)
        or not isinstance(array.data, bytes | memoryview)
        or array.shape != (len(array.data) // length, length)
        or len(array.data) % length
    ):
        raise UserError(f"{name}: no uint8 rows of {length} values; is it the file of another dataset?")
    rows = np.frombuffer(array.data, np.uint8)
    return np.ascontiguousarray(rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))
