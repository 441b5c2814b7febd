"""Bytes as base64 text."""

from __future__ import annotations

import base64
import binascii

from pipeline.data.imaging.decode import CorruptImageError


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 string, as it is or as a ``data:`` URL.

    Raises:
        CorruptImageError: not base64.
    """
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise CorruptImageError("not base64") from None


def encode_base64(data: bytes) -> str:
    """``data`` as base64 text."""
    return base64.b64encode(data).decode()
