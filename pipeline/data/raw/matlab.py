"""MATLAB's MAT files of version 5 (SVHN, ImageNet's devkit): the few kinds of variables that those hold.

Format: MathWorks, "MAT-File Format", Level 5. Every length is checked before it is used; what is compressed inflates
no further than a stated bound.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError, one_line

MAX_VARIABLE_BYTES = 1 << 31
"""Of a variable, inflated; the images of SVHN's extra set have 1.6 GB."""


HEADER_BYTES = 128


_MATRIX, _COMPRESSED = 14, 15


_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy's name of each stored type (miINT8 to miUINT64)."""


_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
"""Encoding of each stored type of characters; the byte order is put behind utf-16."""


_STRUCT, _CHARACTERS, _NUMERIC = (
    2,
    4,
    range(6, 16),
)  # mxSTRUCT_CLASS, mxCHAR_CLASS, mxDOUBLE_CLASS to mxUINT64_CLASS


class _MalformedError(Exception):
    """Bytes that are not what the format says; the message says where."""


@dataclass
class _Reader:
    """Takes elements from ``data`` one after another, in the byte order ``order`` (``<`` or ``>``)."""

    data: memoryview
    order: str
    at: int = 0

    def take(self, count: int) -> memoryview:
        """Return the next ``count`` bytes."""
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise _MalformedError("cut short")
        self.at += count
        return taken

    def element(self) -> tuple[int, memoryview]:
        """Return type and content of the next element, and pass over what pads it to 8 bytes."""
        kind, length = struct.unpack(f"{self.order}II", self.take(8))
        if kind >> 16:  # a small element: length, type and up to 4 bytes of content in 8
            kind, length = kind & 0xFFFF, kind >> 16
            self.at -= 4
            return kind, self.take(4)[: min(length, 4)]
        content = self.take(length)
        if kind != _COMPRESSED:
            self.at = min(self.at + -length % 8, len(self.data))
        return kind, content

    def inner(self, content: memoryview) -> _Reader:
        return _Reader(content, self.order)


def load_mat(data: bytes, names: set[str], file: str, fields: set[str] | None = None) -> dict[str, Any]:
    """Return the variables called ``names``.

    A numeric variable is an array in its stored type and MATLAB's shape. A struct array is a list of dicts of its
    ``fields``, in MATLAB's order.

    Raises:
        UserError: not such a file, or it lacks one of them.
    """
    try:
        found = _variables(data, names, fields or set())
    except (_MalformedError, struct.error, zlib.error, ValueError, LookupError) as error:
        raise UserError(f"{file}: not a whole .mat file ({one_line(error)}); download it again") from None
    if missing := sorted(names - found.keys()):
        raise UserError(f"{file}: holds no variable {missing[0]}; is it the file of another dataset?")
    return found


def _variables(data: bytes, names: set[str], fields: set[str]) -> dict[str, Any]:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER_BYTES])
    if order is None or data[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise _MalformedError("it is not of version 5")
    reader = _Reader(memoryview(data), order, HEADER_BYTES)
    found = {}
    while reader.at < len(data):
        kind, content = reader.element()
        if kind == _COMPRESSED:
            kind, content = reader.inner(_inflate(content)).element()
        if kind != _MATRIX:
            raise _MalformedError(f"an element of type {kind} where a variable is expected")
        name, value = _matrix(reader.inner(content), names, fields)
        if name in names:
            found[name] = value
    return found


def _inflate(content: memoryview) -> memoryview:
    inflater = zlib.decompressobj()
    data = inflater.decompress(content, MAX_VARIABLE_BYTES)
    if not inflater.eof:
        raise _MalformedError("a compressed variable is cut short or too large")
    return memoryview(data)


def _matrix(reader: _Reader, names: set[str] | None, fields: set[str]) -> tuple[str, Any]:
    """Return name and value of a matrix; the value is None where the name is not among ``names`` or it has no use."""
    _, flags = reader.element()
    if len(flags) != 8:
        raise _MalformedError("a matrix without flags")
    kind = struct.unpack(f"{reader.order}I", flags[:4])[0] & 0xFF
    _, lengths = reader.element()
    shape = struct.unpack(f"{reader.order}{len(lengths) // 4}i", lengths[: len(lengths) // 4 * 4])
    if len(shape) < 2 or min(shape) < 0:
        raise _MalformedError(f"a matrix of shape {shape[:8]}")
    _, name = reader.element()
    text = bytes(name).decode("latin-1")
    if names is not None and text not in names:
        return text, None
    if kind in _NUMERIC:
        return text, _array(reader, shape)
    if kind == _CHARACTERS:
        return text, _characters(reader)
    if kind == _STRUCT:
        return text, _records(reader, math.prod(shape), fields)
    return text, None


def _array(reader: _Reader, shape: tuple[int, ...]) -> NDArray[Any]:
    kind, content = reader.element()
    if kind not in _NUMBERS:
        raise _MalformedError(f"numbers stored as type {kind}")
    values = np.frombuffer(content, f"{reader.order}{_NUMBERS[kind]}")
    if values.size != math.prod(shape):
        raise _MalformedError(f"{values.size} numbers in a matrix of shape {shape}")
    return values.reshape(shape, order="F")


def _characters(reader: _Reader) -> str:
    kind, content = reader.element()
    if kind not in _TEXTS:
        raise _MalformedError(f"characters stored as type {kind}")
    order = {"<": "-le", ">": "-be"}[reader.order] if _TEXTS[kind] == "utf-16" else ""
    return bytes(content).decode(_TEXTS[kind] + order)


def _records(reader: _Reader, count: int, fields: set[str]) -> list[dict[str, Any]]:
    """Return the elements of a struct array, with those of their ``fields`` that are numbers or texts."""
    _, width = reader.element()
    length = struct.unpack(f"{reader.order}i", width)[0]
    _, listed = reader.element()
    if length < 1 or len(listed) % length:
        raise _MalformedError("names of fields of no length")
    names = [
        bytes(listed[i : i + length]).split(b"\0")[0].decode("latin-1") for i in range(0, len(listed), length)
    ]
    records: list[dict[str, Any]] = []
    while len(records) < count:
        record = {}
        start = reader.at
        for name in names:
            kind, content = reader.element()
            if kind == _MATRIX and name in fields and len(content):
                record[name] = _matrix(reader.inner(content), None, set())[1]
        if reader.at == start:
            raise _MalformedError("a struct array without fields")
        records.append(record)
    return records
