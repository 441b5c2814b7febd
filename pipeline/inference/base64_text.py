"""Bytes as base64 text."""

from __future__ import annotations

import base64
import binascii

from pipeline.data.imaging.decode import CorruptImageError


def decode_base64(text: object) -> bytes:
    """Return the bytes of a base64 string, plain or as a ``data:`` URL; line breaks and spaces in it do not count.

    Raises:
        CorruptImageError: not base64, or no text at all.
    """
    if not isinstance(text, str):
        raise CorruptImageError(f"not base64 text but {type(text).__name__}")
    content = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise CorruptImageError("not base64") from None


def encode_base64(data: bytes) -> str:
    """Return ``data`` as base64 text."""
    return base64.b64encode(data).decode()
