"""PNG files checked as Pillow does not: their checksums, and that their pixels are all there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = 8  # bytes
_FRAME = 12  # bytes around a chunk's content: its length and type before it, its CRC after it
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG specification, table 11.1)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row and steps of the seven passes of an interlaced PNG (section 8.2)."""


def png_damage(data: bytes) -> str | None:
    """Return what is wrong with the chunks of a PNG file; None where each is whole and its checksum fits."""
    try:
        kinds = [kind for kind, _ in _chunks(data)]
    except ValueError as error:
        return str(error)
    return None if kinds[-1:] == [b"IEND"] else "cut short: a PNG without its end"


def lacks_rows(data: bytes) -> bool:
    """Tell whether the pixels of a whole PNG end before its last row; Pillow leaves the rest black.

    Inflates them, which takes nearly half as long as decoding.
    """
    inflater, length, expected = zlib.decompressobj(), 0, _pixel_bytes(data)
    for kind, content in _chunks(data):
        waiting = bytes(content) if kind == b"IDAT" else b""
        while waiting and length < expected and not inflater.eof:
            length += len(inflater.decompress(waiting, 1 << 20))
            waiting = inflater.unconsumed_tail
    return length < expected


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and content of each chunk of a PNG.

    Raises:
        ValueError: a chunk is cut short, or its CRC is not that of its bytes.
    """
    view, start = memoryview(data), _SIGNATURE
    kind = b""
    while kind != b"IEND" and start < len(data):
        length = int.from_bytes(view[start : start + 4])
        end = start + _FRAME + length
        kind = bytes(view[start + 4 : start + 8])
        if end > len(data):
            raise ValueError(f"cut short in the chunk at byte {start} of a PNG")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ValueError(f"a wrong checksum in the chunk at byte {start} of a PNG")
        yield kind, view[start + 8 : end - 4]
        start = end


def _pixel_bytes(data: bytes) -> int:
    """Return how many bytes the pixels of a PNG inflate to: a filter byte per row, rows padded to whole bytes."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for first_column, first_row, columns, rows in passes:
        wide, high = -(-(width - first_column) // columns), -(-(height - first_row) // rows)
        total += high * (1 + -(-wide * depth * _CHANNELS[colour] // 8)) if wide > 0 else 0
    return total
