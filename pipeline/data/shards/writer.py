"""One shard, written sample by sample."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pipeline.data.shards.layout import TAR_BLOCK, padded
from pipeline.data.shards.manifest import Shard


class ShardWriter:
    """Writes one tar; leaving the ``with`` block without an error ends the archive."""

    def __init__(self, path: Path) -> None:
        self.samples = 0
        self.bytes = 0
        self._path = path
        self.stable_hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file: BinaryIO = self._path.open("wb", buffering=1 << 20)
        return self

    def add(self, key: int, content: Sequence[tuple[str, bytes]]) -> None:
        """Append one sample: extension and bytes of each member."""
        for extension, data in content:
            padding = bytes(padded(len(data)) - len(data))
            self._write(b"".join((_header(f"{key:019d}.{extension}", len(data)), data, padding)))
        self.samples += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._write(bytes(2 * TAR_BLOCK))

    def shard(self, name: str | None = None) -> Shard:
        """Return what was written, to be called ``name`` (the file's own when None)."""
        return Shard(
            name=name or self._path.name,
            samples=self.samples,
            bytes=self.bytes,
            sha256=self.stable_hash.hexdigest(),
        )

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.stable_hash.update(data)
        self.bytes += len(data)


def _header(name: str, length: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = length
    info.mode = 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)
