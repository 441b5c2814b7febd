"""Blobs as streams, for what need not fit into memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

from pipeline.core.storage import open_location
from pipeline.data.raw.blobs import Blob


def open_blob(blob: Blob) -> BinaryIO:
    """Return the file that ``blob`` lies in, positioned at its first byte. Close it."""
    filesystem, path = open_location(blob.file)
    stream = filesystem.open(path, "rb")
    stream.seek(blob.offset)
    return cast(BinaryIO, stream)


def open_stream(blob: Blob) -> io.BufferedReader:
    """Return the bytes of ``blob``, inflated, as a stream that need not fit into memory. Close it."""
    return io.BufferedReader(_Stream(blob), 1 << 20)


def read_together(blobs: Sequence[Blob]) -> list[bytes]:
    """Return the bytes of small ``blobs``, in their order; a file that several lie in is opened once.

    Raises:
        OSError: a file cannot be read, or is shorter than it was.
    """
    found: list[bytes] = []
    with ExitStack() as stack:
        streams: dict[str, BinaryIO] = {}
        for blob in blobs:
            if blob.deflated:
                found.append(blob.read())
                continue
            if blob.file not in streams:
                streams[blob.file] = stack.enter_context(open_blob(blob))
            streams[blob.file].seek(blob.offset)
            data = streams[blob.file].read(blob.length)
            if len(data) != blob.length:
                raise OSError(f"{blob.file}: cut short: {len(data)} of {blob.length} bytes")
            found.append(data)
    return found


class _Stream(io.RawIOBase):
    """Reads a blob from front to back."""

    def __init__(self, blob: Blob) -> None:
        self._file = open_blob(blob)
        self._left = blob.length
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if blob.deflated else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _some(self, most: int) -> bytes:
        """Return at least one byte and at most ``most``; none at the end."""
        if self._inflater is None:
            return self._stored(most)
        while True:
            stored = self._inflater.unconsumed_tail or self._stored(1 << 20)
            try:
                data = self._inflater.decompress(stored, most)
            except zlib.error as error:
                raise OSError(f"does not inflate: {error}") from None
            if data or not stored:
                return data

    def _stored(self, most: int) -> bytes:
        data = self._file.read(min(most, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
