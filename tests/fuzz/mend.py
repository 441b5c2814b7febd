"""Checksums put right after a mutation, so that it reaches the code behind them."""

from __future__ import annotations

import gzip
import zlib

from pipeline.data.shards.layout import TAR_BLOCK

_PNG_SIGNATURE = 8  # bytes
_TAR_CHECKSUM = slice(148, 156)  # of a header (POSIX ustar)


def png_checksums(data: bytes) -> bytes:
    """Return a PNG with the CRC of each chunk that is all there made right."""
    mended, start = bytearray(data), _PNG_SIGNATURE
    while start + 12 <= len(mended):
        end = start + 12 + int.from_bytes(mended[start : start + 4])
        if end > len(mended):
            break
        mended[end - 4 : end] = zlib.crc32(mended[start + 4 : end - 4]).to_bytes(4)
        start = end
    return bytes(mended)


def tar_checksums(data: bytes) -> bytes:
    """Return a tar with the checksum made right of each block that could be a header."""
    mended = bytearray(data)
    for start in range(0, len(mended) - TAR_BLOCK + 1, TAR_BLOCK):
        header = mended[start : start + TAR_BLOCK]
        if b"ustar" in header[257:263]:
            header[_TAR_CHECKSUM] = b" " * 8
            header[_TAR_CHECKSUM] = b"%06o\0 " % sum(header)
            mended[start : start + TAR_BLOCK] = header
    return bytes(mended)


def tar_gz(data: bytes) -> bytes:
    """Return a mutated tar as a whole ``.tar.gz``."""
    return gzip.compress(tar_checksums(data), 1)
