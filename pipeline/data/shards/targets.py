"""Target kinds: the answer to an image as it lies in a shard, in memory and in a histogram.

To add one, write its `TargetKind` here and name it in `TARGETS`.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.shards.arrays import decode_array, decode_npy_rows, encode_npy

IGNORE = 255
"""Train id of pixels that count neither in the loss nor in the metrics (Cityscapes' own convention)."""

Target = int | tuple[int, ...] | NDArray[np.uint8]
"""A class index, class indices in ascending order, or train ids uint8 (H, W)."""
Size = tuple[int, int]
LONGEST_INDEX = 9
"""Digits of a class index that are read at once; int64 holds 18."""


class TargetKind(ABC):
    """One kind of target; it has no state."""

    spatial: ClassVar[bool] = False
    """There is a target per pixel: it is resized, flipped and cropped with its image."""
    counted: ClassVar[str] = "samples"
    """The unit of `histogram`."""
    exclusive: ClassVar[bool] = True
    """There is one class per sample or pixel, so that a histogram adds up to their number."""

    @abstractmethod
    def encode(self, target: Any, encoding: str) -> tuple[str, bytes]:
        """Return the extension and the content of the target's member in a shard of images in ``encoding``."""

    @abstractmethod
    def decode(self, members: Mapping[str, memoryview], size: Size, classes: int) -> Any:
        """Return the target among the ``members`` of a sample, by extension, as an element of `empty`.

        Raises:
            KeyError: there is none.
            ValueError: it has another form, or names a class outside 0..``classes`` - 1.
        """

    def decode_rows(
        self,
        extension: str,
        rows: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        size: Size,
        classes: int,
    ) -> NDArray[Any]:
        """Return the targets (B, ...) that lie, as members called ``extension``, in the first ``lengths`` (B,) bytes
        of ``rows`` uint8 (B, L), as `decode` finds them one by one.

        Raises:
            KeyError, ValueError: as `decode`.
        """
        contents = (memoryview(row[:length]) for row, length in zip(rows, lengths.tolist(), strict=True))
        return np.stack([self.decode({extension: content}, size, classes) for content in contents])

    @abstractmethod
    def empty(self, samples: int, size: Size, classes: int) -> NDArray[Any]:
        """Return room for the targets of ``samples`` images of ``size``, zeroed."""

    @abstractmethod
    def histogram(self, target: Any, classes: int) -> tuple[NDArray[np.int64], int]:
        """Return how often each class occurs in ``target``, int64 (classes,), and how many pixels are ignored."""

    def sample_bytes(self, size: Size, classes: int) -> int:
        """Return the bytes of one target in memory."""
        return self.empty(1, size, classes).nbytes


class ClassIndex(TargetKind):
    """One class per image: ``.cls``, ASCII digits; int64 (N,) in memory."""

    def encode(self, target: int, encoding: str) -> tuple[str, bytes]:  # noqa: ARG002
        return "cls", str(target).encode()

    def decode(self, members: Mapping[str, memoryview], size: Size, classes: int) -> int:  # noqa: ARG002
        index = int(bytes(members["cls"]))
        _check_classes([index], classes)
        return index

    def decode_rows(
        self,
        extension: str,
        rows: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        size: Size,  # noqa: ARG002
        classes: int,
    ) -> NDArray[np.int64]:
        if extension != "cls":
            raise KeyError(extension)
        width = int(lengths.max())
        if lengths.min() < 1 or width > LONGEST_INDEX:
            raise ValueError("not the index of a class")
        digits = np.where(np.arange(width) < lengths[:, None], rows[:, :width], 0).astype(np.uint8)
        indices = digits.view(f"S{width}")[:, 0].astype(np.int64)
        _check_classes([int(indices.min()), int(indices.max())], classes)
        return indices

    def empty(self, samples: int, size: Size, classes: int) -> NDArray[np.int64]:  # noqa: ARG002
        return np.zeros(samples, np.int64)

    def histogram(self, target: int, classes: int) -> tuple[NDArray[np.int64], int]:
        return np.bincount([target], minlength=classes), 0


class ClassSet(TargetKind):
    """Any number of classes per image: ``.classes``, ASCII digits separated by spaces; uint8 (N, classes) of 0 and 1
    in memory."""

    exclusive: ClassVar[bool] = False

    def encode(self, target: tuple[int, ...], encoding: str) -> tuple[str, bytes]:  # noqa: ARG002
        return "classes", " ".join(map(str, target)).encode()

    def decode(
        self,
        members: Mapping[str, memoryview],
        size: Size,  # noqa: ARG002
        classes: int,
    ) -> NDArray[np.uint8]:
        indices = [int(word) for word in bytes(members["classes"]).split()]
        _check_classes(indices, classes)
        present = np.zeros(classes, np.uint8)
        present[indices] = 1
        return present

    def empty(self, samples: int, size: Size, classes: int) -> NDArray[np.uint8]:  # noqa: ARG002
        return np.zeros((samples, classes), np.uint8)

    def histogram(self, target: tuple[int, ...], classes: int) -> tuple[NDArray[np.int64], int]:
        return np.bincount(np.asarray(target, np.int64), minlength=classes), 0


class ClassMask(TargetKind):
    """A class per pixel, always lossless: ``.mask.npy`` beside raw images, else ``.mask.png``, uint8 train ids (H, W)
    with 255 = ignored; uint8 (N, H, W) in memory."""

    spatial: ClassVar[bool] = True
    counted: ClassVar[str] = "pixels"

    def encode(self, target: NDArray[np.uint8], encoding: str) -> tuple[str, bytes]:
        if encoding == "raw":
            return "mask.npy", encode_npy(target)
        buffer = io.BytesIO()
        Image.fromarray(target).save(buffer, "PNG", compress_level=6)
        return "mask.png", buffer.getvalue()

    def decode(self, members: Mapping[str, memoryview], size: Size, classes: int) -> NDArray[np.uint8]:
        mask = decode_array(members, "mask.", size)
        _check_masks(mask[None], size, classes)
        return mask

    def decode_rows(
        self,
        extension: str,
        rows: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        size: Size,
        classes: int,
    ) -> NDArray[np.uint8]:
        if extension != "mask.npy":
            raise KeyError(extension)
        if (lengths != lengths[0]).any():
            raise ValueError("masks of several sizes")
        masks = decode_npy_rows(rows[:, : lengths[0]])
        _check_masks(masks, size, classes)
        return masks

    def empty(self, samples: int, size: Size, classes: int) -> NDArray[np.uint8]:  # noqa: ARG002
        return np.zeros((samples, *size), np.uint8)

    def histogram(self, target: NDArray[np.uint8], classes: int) -> tuple[NDArray[np.int64], int]:
        counts = np.bincount(target.ravel(), minlength=256)
        return counts[:classes], int(counts[IGNORE])


TARGETS: dict[str, TargetKind] = {
    "classification": ClassIndex(),
    "multilabel": ClassSet(),
    "segmentation": ClassMask(),
}
"""The kind of target of each task."""


def _check_classes(indices: list[int], classes: int) -> None:
    for index in indices:
        if not 0 <= index < classes:
            raise ValueError(f"class {index}, the manifest has 0 to {classes - 1}")


def _check_masks(masks: NDArray[np.uint8], size: Size, classes: int) -> None:
    """Refuse ``masks`` (B, H, W) of another size or type, or with a class that there is not.

    Raises:
        ValueError: says what was got.
    """
    if masks.shape[1:] != size or masks.dtype != np.uint8:
        raise ValueError(f"mask of {masks.dtype} {masks.shape[1:]}")
    _check_classes([int(masks.max(where=masks != IGNORE, initial=0))], classes)
