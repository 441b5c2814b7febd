"""Compressed files, inflated no further than a stated bound."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError, one_line
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.streams import open_stream

MAX_RATIO = 200
"""Inflated bytes to compressed ones; tars of plain bitmaps and masks come to some 100."""


MIN_BOUND = 1 << 28
"""Bytes that any compressed file may inflate to, however short it is: 256 MiB."""


_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}


COMPRESSED = {
    ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz", ".txz": "xz",
}  # fmt: skip
"""Suffixes of compressed tars."""


_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, ValueError, OSError)


def decompressed(blob: Blob, name: str, target: Path) -> Blob:
    """Inflate the compressed tar ``blob``, called ``name``, to the file ``target``, which has random access.

    An existing ``target`` is taken as it is: it got its name when it was whole.

    Raises:
        UserError: a damaged file, or one that inflates to over `MAX_RATIO` times its size.
    """
    if not target.exists():
        kind = next(kind for suffix, kind in COMPRESSED.items() if name.lower().endswith(suffix))
        left = max(MAX_RATIO * blob.length, MIN_BOUND)
        with atomic_file(target) as partial, partial.open("wb") as output, open_stream(blob) as packed:
            for chunk in iter(_chunks(_OPENERS[kind](packed), name), b""):
                left -= len(chunk)
                if left < 0:
                    raise UserError(
                        f"{name}: inflates to over {MAX_RATIO} times its {blob.length} bytes; "
                        "do not trust this file, or unpack it yourself"
                    )
                output.write(chunk)
    return Blob(str(target), 0, target.stat().st_size, version=blob.version)


def _chunks(stream: IO[bytes], name: str) -> Callable[[], bytes]:
    """Return what reads the next 1 MiB; it raises a `UserError` where the stream is damaged."""

    def read() -> bytes:
        try:
            return stream.read(1 << 20)
        except _ERRORS as error:
            raise UserError(f"{name}: not a whole archive ({one_line(error)}); download it again") from None

    return read


def inflate_gzip(blob: Blob, name: str, bound: int) -> bytes:
    """Return at most ``bound`` bytes from the start of ``blob``, inflated where it is a gzip file.

    Raises:
        UserError: a damaged file.
    """
    with open_stream(blob) as stream:
        packed = stream.peek(2)[:2] == b"\x1f\x8b"
        try:
            return gzip.open(stream).read(bound) if packed else stream.read(bound)
        except _ERRORS as error:
            raise UserError(f"{name}: not a whole gzip file ({one_line(error)}); download it again") from None
