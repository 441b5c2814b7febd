"""Tars and zips as trees of blobs, without unpacking them. No name, size or link in them is trusted."""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, Self

from pipeline.core.errors import UserError, one_line
from pipeline.data.raw.blobs import Blob, Tree
from pipeline.data.raw.links import Members
from pipeline.data.raw.streams import open_blob, open_stream
from pipeline.data.shards.layout import TAR_BLOCK

MAX_NOTE_BYTES = 1 << 20
"""A tar's long names and pax records are read into memory; real ones have a few hundred bytes."""


MAX_MEMBER_BYTES = 1 << 29
"""A member that is read into memory; the largest of an official archive, STL-10's test_X.bin, has 221 MB."""


MAX_TARGET_BYTES = 4096
"""Length of the path that a link in a zip holds (Linux's PATH_MAX)."""


_ZIP_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra field


_NOTES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


_TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, zlib.error, OSError)
"""Raised by `tarfile` on damaged headers."""


_ZIP_ERRORS = (
    zipfile.BadZipFile, struct.error, EOFError, IndexError, ValueError, OverflowError, NotImplementedError, OSError,
)  # fmt: skip
"""Raised by `zipfile` on damaged directories."""


class _CheckedHeader(tarfile.TarInfo):
    """A tar header whose size is refused before anything of that size is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse the header ``buf``.

        Raises:
            tarfile.HeaderError: it is none, or its size is negative or too large for what it announces.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _NOTES and header.size > MAX_NOTE_BYTES):
            raise tarfile.HeaderError(f"a header gives the size {header.size}")
        return header


def tar_members(archive: Blob, name: str) -> Tree:
    """List the files of a plain tar (itself a file or a member of another tar), by name.

    Tars put one after another are read as one.

    Raises:
        UserError: not a tar, cut short, a name used twice, or a name that leads out of the archive.
    """
    members = Members(name)
    end = archive.offset + archive.length
    try:
        with open_blob(archive) as stream:
            start = _next_content(stream, _add_tar(stream, archive.offset, end, archive, members), end)
            while start < end:
                start = _next_content(stream, _add_tar(stream, start, end, archive, members), end)
    except _TAR_ERRORS as error:
        raise UserError(f"{name}: not a whole tar archive ({one_line(error)}); download it again") from None
    return members.tree()


def _add_tar(stream: BinaryIO, start: int, end: int, archive: Blob, members: Members) -> int:
    """Add the members of the tar at ``start`` of ``stream``; return the offset of the zeros that end it."""
    stream.seek(start)
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=_CheckedHeader) as tar:
        for info in tar:
            if info.size < 0 or info.offset_data + info.size > end:
                raise tarfile.ReadError(f"{info.name!r} has {info.size} bytes, more than are left")
            if info.issparse():
                raise tarfile.ReadError(f"{info.name!r} is stored as a sparse file; pack it without --sparse")
            if info.isfile():
                members.add(info.name, archive.part(info.offset_data, info.size))
            elif info.isdir():
                members.add_folder(info.name)
            elif info.islnk() or info.issym():
                members.add_link(info.name, info.linkname, hard=info.islnk())
            else:
                members.skip(info.name)
    stream.seek(tar.offset)
    if stream.read(TAR_BLOCK) != bytes(TAR_BLOCK) or tar.offset + TAR_BLOCK > end:
        raise tarfile.ReadError("it is cut short")
    return tar.offset


def _next_content(stream: BinaryIO, offset: int, end: int) -> int:
    """Return the offset of the first block from ``offset`` on that is not all zeros, or ``end``."""
    stream.seek(offset)
    while offset < end:
        chunk = stream.read(min(1 << 20, end - offset))
        content = len(chunk) - len(chunk.lstrip(b"\0"))
        if content < len(chunk) or not chunk:
            return offset + content // TAR_BLOCK * TAR_BLOCK
        offset += len(chunk)
    return end


def zip_members(archive: Blob, name: str) -> Tree:
    """List the files of a zip, by name, through its central directory.

    Raises:
        UserError: not a zip, encrypted or otherwise packed members, a name used twice or leading out.
    """
    members = Members(name)
    try:
        with open_blob(archive) as stream, zipfile.ZipFile(stream) as directory:
            for info in directory.infolist():
                if info.is_dir():
                    members.add_folder(info.filename)
                elif stat.S_ISLNK(info.external_attr >> 16):
                    members.add_link(info.filename, _link_target(_zip_member(stream, info, archive, name)))
                else:
                    members.add(info.filename, _zip_member(stream, info, archive, name))
    except _ZIP_ERRORS as error:
        raise UserError(f"{name}: not a whole zip archive ({one_line(error)}); download it again") from None
    return members.tree()


def _zip_member(stream: BinaryIO, info: zipfile.ZipInfo, archive: Blob, name: str) -> Blob:
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{name}: {info.filename!r} is encrypted or packed in an unknown way; pack it anew")
    stream.seek(info.header_offset)
    signature, name_length, extra = _ZIP_LOCAL_HEADER.unpack(stream.read(_ZIP_LOCAL_HEADER.size))
    offset = info.header_offset + _ZIP_LOCAL_HEADER.size + name_length + extra
    if signature != b"PK\x03\x04" or offset + info.compress_size > archive.offset + archive.length:
        raise zipfile.BadZipFile(f"damaged at {info.filename!r}")
    return archive.part(offset, info.compress_size, info.compress_type == zipfile.ZIP_DEFLATED)


def _link_target(blob: Blob) -> str:
    with open_stream(blob) as stream:
        return stream.read(MAX_TARGET_BYTES).decode(errors="surrogateescape")


def tar_gz_files(blob: Blob, name: str, requested: Callable[[str], bool]) -> dict[str, bytes]:
    """Read the members of a ``.tar.gz`` that ``requested`` accepts, by base name, into memory.

    Raises:
        UserError: not a whole ``.tar.gz``, or a member of more than `MAX_MEMBER_BYTES`.
    """
    found: dict[str, bytes] = {}
    try:
        with (
            open_stream(blob) as packed,
            gzip.open(packed) as stream,  # tarfile's own way stumbles over cut headers
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_CheckedHeader) as tar,
        ):
            for info in tar:
                base = info.name.rsplit("/", 1)[-1]
                if not info.isfile() or not requested(base):
                    continue
                if not 0 <= info.size <= MAX_MEMBER_BYTES or base in found:
                    raise tarfile.ReadError(f"{base} has {info.size} bytes, or occurs twice")
                if (member := tar.extractfile(info)) is not None:
                    found[base] = member.read()
    except _TAR_ERRORS as error:
        raise UserError(
            f"{name}: not a whole .tar.gz archive ({one_line(error)}); download it again"
        ) from None
    return found
