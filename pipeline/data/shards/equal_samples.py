"""Samples of a raw shard that take the same number of bytes each: found by arithmetic, copied in blocks."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.shards.arrays import decode_npy_rows
from pipeline.data.shards.layout import TAR_BLOCK, padded
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.tar import NAME, SIZE, TYPE, Member, walk

COPIED_BYTES = 1 << 19
"""Samples copied at a time: they stay in a core's cache between being checked and being put in place."""

OCTAL = 8 ** np.arange(10, -1, -1)
"""Worth of the eleven digits of a tar's size field."""


class EqualSamples:
    """A view of a raw shard, one row of bytes per sample, by the layout of its first sample.

    Every sample that is read is checked against that layout; nothing else of the shard is touched.
    """

    def __init__(self, content: memoryview, samples: int, members: list[Member]) -> None:
        self.stride = members[-1].end
        self._members = members
        self._rows = np.frombuffer(content, np.uint8, samples * self.stride).reshape(samples, self.stride)
        self._first = self._rows[0].copy()

    @classmethod
    def find(cls, content: memoryview, samples: int, path: Path) -> EqualSamples | None:
        """Return the view of a shard of that many ``samples``, or None where they cannot be of equal length."""
        members = walk(content, path)
        first = next(members, None)
        if first is None or first.extension != "npy":
            return None
        sample = [first, *takewhile(lambda member: member.key == first.key, members)]
        end = samples * sample[-1].end
        # A tar ends with empty blocks, or with its last member when it was cut off there.
        if len(sample) != 2 or end > len(content) or any(content[end : end + 8]):
            return None
        return cls(content, samples, sample)

    def copy(
        self,
        positions: NDArray[np.int64],
        images: NDArray[np.uint8],
        targets: NDArray[Any],
        slots: NDArray[np.int64],
        manifest: Manifest,
    ) -> bool:
        """Copy the samples at ``positions`` to the ``slots`` of ``images`` and ``targets``, in whole blocks.

        Returns False, and leaves the slots in any state, where a sample is not laid out like the first one.
        """
        step = max(1, COPIED_BYTES // self.stride)
        for start in range(0, len(positions), step):
            part = slice(start, start + step)
            # One call that copies whole rows, without Python's lock.
            rows = self._rows.take(positions[part], axis=0)
            try:
                pixels, found = self._decode(rows, manifest)
            except (KeyError, ValueError):
                return False
            images[slots[part]], targets[slots[part]] = pixels, found
        return True

    def _decode(self, rows: NDArray[np.uint8], manifest: Manifest) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Return the images (B, H, W, C) and targets of ``rows``.

        Raises:
            ValueError: a sample has another layout than the first, or is not one of ``manifest``.
        """
        image, target = self._members
        image_lengths, target_lengths = (self._lengths(rows, member) for member in self._members)
        if (image_lengths != image.length).any() or (rows[:, : len(image.key)] != self._stems(rows)).any():
            raise ValueError("members of other lengths or names")
        pixels = decode_npy_rows(rows[:, image.start : image.start + image.length])
        shape = (*manifest.size, manifest.channels)
        if pixels.shape[1:] not in (shape, shape[: 2 if manifest.channels == 1 else 3]):
            raise ValueError(f"image of shape {pixels.shape[1:]}")
        found = manifest.target.decode_rows(
            target.extension,
            rows[:, target.start : target.end],
            target_lengths,
            manifest.size,
            manifest.num_classes,
        )
        return pixels.reshape(-1, *shape), found

    def _stems(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the keys in the headers of the targets, uint8 (B, digits)."""
        header = self._members[1].start - TAR_BLOCK
        return rows[:, header : header + len(self._members[0].key)]

    def _lengths(self, rows: NDArray[np.uint8], member: Member) -> NDArray[np.int64]:
        """Return the length (B,) of ``member`` in each of ``rows``.

        Raises:
            ValueError: it has another extension or type there, or takes another number of blocks.
        """
        start = member.start - TAR_BLOCK
        for field in (slice(len(member.key), NAME.stop), slice(TYPE, TYPE + 1)):
            place = slice(start + field.start, start + field.stop)
            if (rows[:, place] != self._first[place]).any():
                raise ValueError("members of other names or types")
        digits = rows[:, start + SIZE.start : start + SIZE.stop - 1].astype(np.int64) - ord("0")
        if ((digits < 0) | (digits > 7)).any():
            raise ValueError("a size that is not eleven octal digits")
        lengths: NDArray[np.int64] = digits @ OCTAL
        if (-(-lengths // TAR_BLOCK) * TAR_BLOCK != padded(member.length)).any():
            raise ValueError("members of other lengths")
        return lengths
