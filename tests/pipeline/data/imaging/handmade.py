"""PNG files written byte by byte, to hold what no encoder writes."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_file(
    rows: bytes,
    width: int,
    height: int,
    depth: int,
    colour: int,
    transparent: bytes | None = None,
    stream: bytes | None = None,
    interlaced: bool = False,
) -> bytes:
    """Return a PNG of ``rows``, packed as the specification says, without filter bytes.

    Args:
        depth: bits per sample.
        colour: colour type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        transparent: content of the ``tRNS`` chunk.
        stream: what to write instead of the compressed rows.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    length = len(rows) // height
    filtered = b"".join(b"\0" + rows[i * length : (i + 1) * length] for i in range(height if rows else 0))
    parts = [chunk(b"IHDR", header)]
    if colour == 3:
        parts.append(chunk(b"PLTE", bytes(range(256)) * 3))
    if transparent is not None:
        parts.append(chunk(b"tRNS", transparent))
    parts.append(chunk(b"IDAT", zlib.compress(filtered) if stream is None else stream))
    return SIGNATURE + b"".join([*parts, chunk(b"IEND", b"")])
