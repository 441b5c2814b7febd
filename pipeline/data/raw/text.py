"""Text files among the raw files."""

from __future__ import annotations

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.streams import open_stream

MAX_TEXT_BYTES = 1 << 28
"""Of a table or list that is read into memory; ImageNet-21K's list of 14 million images has some 256 MiB."""


def read_lines(blob: Blob, name: str) -> list[str]:
    """Return the lines of a text in UTF-8, with or without a byte-order mark.

    Raises:
        UserError: another encoding, or over `MAX_TEXT_BYTES`.
    """
    with open_stream(blob) as stream:
        data = stream.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise UserError(f"{name}: over {MAX_TEXT_BYTES} bytes, more than a table has")
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a text in UTF-8; save it as UTF-8") from None
