"""One shard, read sample by sample."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.storage import Storage
from pipeline.data.shards.arrays import decode_array
from pipeline.data.shards.manifest import Manifest, Shard

BLOCK = 512
"""Bytes of a tar header, and what members are padded to (POSIX ustar)."""


Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | int]
"""Image uint8 (H, W, C), and its target as an element of `TargetKind.empty`."""


def read_shard(
    path: Path, shard: Shard, manifest: Manifest, wanted: Container[int] | None = None
) -> Iterator[Decoded]:
    """The (image, target) pairs of one shard in its order, or those of them whose positions are ``wanted``.

    Raises:
        UserError: as `load_samples`.
    """
    count = 0
    pending: dict[str, memoryview] = {}
    key = ""
    for name, content in _members(_content(path, shard, manifest), path):
        sample_key, _, kind = name.partition(".")
        if sample_key != key and pending:
            if wanted is None or count in wanted:
                yield decode_sample(pending, manifest, path)
            count += 1
            pending = {}
        key = sample_key
        pending[kind] = content
    if pending:
        if wanted is None or count in wanted:
            yield decode_sample(pending, manifest, path)
        count += 1
    if count != shard.samples:
        raise UserError(
            f"{path}: {count} samples, the manifest says {shard.samples}; delete {path.parent} and "
            "run `uv run dvc repro`"
        )


def _content(path: Path, shard: Shard, manifest: Manifest) -> memoryview:
    """The bytes of a shard: of the file at ``path``, or from where the manifest says that the shards lie."""
    if manifest.location is None or path.exists():
        return memoryview(path.read_bytes())
    storage = Storage(manifest.location)
    content = storage.read(shard.name)
    if content is None or hashlib.sha256(content).hexdigest() != shard.sha256:
        raise UserError(
            f"{storage.place(shard.name)}: {'missing' if content is None else 'not what was written'}; "
            "prepare it again"
        )
    return memoryview(content)


def decode_sample(members: dict[str, memoryview], manifest: Manifest, path: Path) -> Decoded:
    """Decode the members of one sample; only the contract's own extensions are ever read."""
    try:
        image = decode_array(members, "")
        if manifest.channels == 1 and image.ndim == 3:
            # WebP has no grey: its three channels are the same.
            image = image[..., :1]
        if image.ndim == 2:
            image = image[..., None]
        if image.shape != (*manifest.size, manifest.channels):
            raise ValueError(f"image of shape {image.shape}")
        target = manifest.target.decode(members, manifest.size, manifest.num_classes)
    except (KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: not a shard of this manifest ({error}); delete {path.parent} and run `uv run dvc repro`"
        ) from None
    return image, target


def _members(content: memoryview, path: Path) -> Iterator[tuple[str, memoryview]]:
    """(name, content) of each plain file in a tar. Our shards hold nothing else, so the walk is a few lines
    and some ten times faster than `tarfile`."""
    position = 0
    while position + BLOCK <= len(content):
        header = content[position : position + BLOCK]
        if not any(header[:8]):
            return
        name = bytes(header[:100]).rstrip(b"\0").decode()
        size = int(bytes(header[124:136]).rstrip(b"\0 ") or b"0", 8)
        start = position + BLOCK
        if start + size > len(content):
            raise UserError(f"{path}: cut short; delete {path.parent} and run `uv run dvc repro`")
        if bytes(header[156:157]) in (b"0", b"\0"):
            yield name, content[start : start + size]
        position = start + -(-size // BLOCK) * BLOCK
