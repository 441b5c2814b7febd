"""One shard, read by the positions of its samples."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError, one_line
from pipeline.core.storage import Storage
from pipeline.data.shards.arrays import decode_array
from pipeline.data.shards.equal_samples import EqualSamples
from pipeline.data.shards.manifest import Manifest, Shard
from pipeline.data.shards.node_cache import open_shard, read_shard
from pipeline.data.shards.tar import walk

READ_AHEAD = 1 << 17
"""Bytes that Linux reads ahead when asked to: what is more in one call, it drops."""

Decoded = tuple[NDArray[np.uint8], Any]
"""Image uint8 (H, W, C), and its target as an element of `TargetKind.empty`."""


def empty_samples(manifest: Manifest, count: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return room for ``count`` samples: images uint8 (count, H, W, C), not filled, and targets."""
    images = np.empty((count, *manifest.size, manifest.channels), np.uint8)
    return images, manifest.target.empty(count, manifest.size, manifest.num_classes)


class ShardReader:
    """The samples of one shard, which is memory-mapped where it lies on this machine.

    A raw shard as `ShardWriter` writes it is indexed by arithmetic, so that only the samples that are read are
    touched. In any other the members' headers are walked once. A reader may be shared by threads.
    """

    def __init__(self, folder: Path, shard: Shard, manifest: Manifest) -> None:
        self._path, self._shard, self._manifest = folder / shard.name, shard, manifest
        self._mapping: mmap.mmap | None = None

    def read(
        self,
        positions: NDArray[np.int64],
        images: NDArray[np.uint8],
        targets: NDArray[Any],
        slots: NDArray[np.int64] | None = None,
    ) -> None:
        """Decode the samples at ``positions`` (N,) of the shard into ``slots`` (N,) of ``images`` and ``targets``.

        Without ``slots`` they are put in their order from the first slot on.

        Raises:
            UserError: the shard is missing, cut short, or holds other samples than the manifest says.
        """
        slots = np.arange(len(positions)) if slots is None else slots
        order = np.argsort(positions)
        positions, slots = positions[order], slots[order]
        if self._equal is not None:
            runs = np.flatnonzero(np.diff(positions, prepend=-2) != 1)
            lasts = np.append(runs[1:], len(positions))[: len(runs)] - 1
            stride = self._equal.stride
            self._read_ahead((positions[runs] * stride).tolist(), ((positions[lasts] + 1) * stride).tolist())
            if self._equal.copy(positions, images, targets, slots, self._manifest):
                return
        for position, slot in zip(positions.tolist(), slots.tolist(), strict=True):
            images[slot], targets[slot] = self.sample(position)

    def sample(self, position: int) -> Decoded:
        """Return the sample at ``position``.

        Raises:
            UserError: as `read`.
        """
        return decode_sample(self._members(position), self._manifest, self._path)

    def _members(self, position: int) -> dict[str, memoryview]:
        """Return the content of each member of a sample by its extension."""
        return {
            extension: self._content[start : start + length]
            for extension, (start, length) in self._index[position].items()
        }

    def targets(self) -> NDArray[Any]:
        """Return the targets of all samples, as `TargetKind.empty` has them; no image is decoded.

        Raises:
            UserError: as `read`.
        """
        manifest = self._manifest
        found = manifest.target.empty(self._shard.samples, manifest.size, manifest.num_classes)
        for position in range(len(found)):
            found[position] = decode_target(self._members(position), manifest, self._path)
        return found

    @cached_property
    def _content(self) -> memoryview:
        """The bytes of the shard: of the file, or from where the manifest says that the shards lie."""
        location = self._manifest.location
        if location is None or self._path.exists():
            try:
                return self._map(self._path.open("rb"))
            except FileNotFoundError:
                raise UserError(
                    f"{self._path}: missing; delete {self._path.parent} and run `uv run dvc repro`"
                ) from None
        file = open_shard(storage := Storage(location), self._shard)
        return self._map(file) if file else memoryview(read_shard(storage, self._shard))

    def _map(self, file: BinaryIO) -> memoryview:
        """Return a view of the bytes of ``file``, which is closed; they are read when they are touched."""
        with file:
            if os.fstat(file.fileno()).st_size == 0:  # nothing to map
                return memoryview(b"")
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Else each page that is touched would bring its neighbours, other samples, from the disk.
        self._mapping.madvise(mmap.MADV_RANDOM)
        return memoryview(self._mapping)

    @cached_property
    def _equal(self) -> EqualSamples | None:
        return EqualSamples.find(self._content, self._shard.samples, self._path)

    @cached_property
    def _index(self) -> list[dict[str, tuple[int, int]]]:
        """Start and length of each sample's members by extension."""
        samples: list[dict[str, tuple[int, int]]] = []
        key = None
        self._read_ahead([0], [len(self._content)])
        for member in walk(self._content, self._path):
            if member.key != key:
                samples.append({})
                key = member.key
            samples[-1][member.extension] = member.start, member.length
        if len(samples) != self._shard.samples:
            raise UserError(
                f"{self._path}: {len(samples)} samples, the manifest says {self._shard.samples}; "
                f"delete {self._path.parent} and run `uv run dvc repro`"
            )
        return samples

    def _read_ahead(self, firsts: Iterable[int], ends: Iterable[int]) -> None:
        """Have the system bring these parts of the shard from the disk, all at once and in the background."""
        if self._mapping is None:
            return
        for first, end in zip(firsts, ends, strict=True):
            for start in range(first // mmap.PAGESIZE * mmap.PAGESIZE, end, READ_AHEAD):
                self._mapping.madvise(mmap.MADV_WILLNEED, start, min(READ_AHEAD, end - start))


def read_classes(folder: Path, manifest: Manifest, split: str) -> NDArray[np.int64]:
    """Return the class of each sample of ``split``, where each has one: int64 (N,).

    Raises:
        UserError: a shard is missing, cut short, or holds other samples than the manifest says.
    """
    shards = manifest.split(split).shards
    with ThreadPoolExecutor() as pool:
        targets = pool.map(lambda shard: ShardReader(folder, shard, manifest).targets(), shards)
        return np.concatenate(list(targets)).astype(np.int64)


@contextmanager
def _foreign_is_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a shard of this manifest ({one_line(error)}); delete {path.parent} and run `uv run dvc repro`"
        ) from None


def decode_target(members: dict[str, memoryview], manifest: Manifest, path: Path) -> Any:
    """Return the target of one sample.

    Raises:
        UserError: as `decode_sample`.
    """
    with _foreign_is_refused(path):
        return manifest.target.decode(members, manifest.size, manifest.num_classes)


def decode_sample(members: dict[str, memoryview], manifest: Manifest, path: Path) -> Decoded:
    """Decode the members of one sample; only the contract's own extensions are ever read.

    Raises:
        UserError: they are not a sample of ``manifest``.
    """
    with _foreign_is_refused(path):
        image = decode_array(members, "", manifest.size)
        if manifest.channels == 1 and image.ndim == 3:
            # WebP has no grey: its three channels are the same.
            image = image[..., :1]
        if image.ndim == 2:
            image = image[..., None]
        if image.shape != (*manifest.size, manifest.channels) or image.dtype != np.uint8:
            raise ValueError(f"image of {image.dtype} {image.shape}")
    return image, decode_target(members, manifest, path)
