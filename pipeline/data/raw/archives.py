"""Tars and zips as trees of blobs, without unpacking them."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import Blob, is_hidden, open_blob, open_stream

_BLOCK = 512  # bytes, the tar format's unit


_ZIP_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra field


def tar_members(archive: Blob, name: str) -> dict[str, Blob]:
    """The files of a plain tar (itself a file or a member of another tar), by name.

    Raises:
        UserError: not a tar, cut short, a name used twice, or a name that leads out of the archive.
    """
    members: dict[str, Blob] = {}
    try:
        with open_blob(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in tar:
                if info.isfile():
                    _add(members, info.name, archive.part(info.offset_data, info.size), name)
            stream.seek(tar.offset)
            end = stream.read(_BLOCK)
    except tarfile.TarError as error:
        raise UserError(f"{name}: not a whole tar archive ({error}); download it again") from None
    if end != bytes(_BLOCK) or tar.offset > archive.offset + archive.length:
        raise UserError(f"{name}: the tar archive is cut short; download it again")
    return {member: members[member] for member in sorted(members)}


def zip_members(archive: Blob, name: str) -> dict[str, Blob]:
    """The files of a zip, by name, through its central directory.

    Raises:
        UserError: not a zip, encrypted or otherwise packed members, a name used twice or leading out.
    """
    members: dict[str, Blob] = {}
    try:
        with open_blob(archive) as stream, zipfile.ZipFile(stream) as directory:
            for info in directory.infolist():
                if info.is_dir():
                    continue
                if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{name}: {info.filename} is encrypted or packed in an unknown way")
                stream.seek(info.header_offset)
                signature, name_length, extra = _ZIP_LOCAL_HEADER.unpack(stream.read(_ZIP_LOCAL_HEADER.size))
                if signature != b"PK\x03\x04":
                    raise UserError(
                        f"{name}: the zip archive is damaged at {info.filename}; download it again"
                    )
                offset = info.header_offset + _ZIP_LOCAL_HEADER.size + name_length + extra
                deflated = info.compress_type == zipfile.ZIP_DEFLATED
                _add(members, info.filename, archive.part(offset, info.compress_size, deflated), name)
    except (zipfile.BadZipFile, struct.error) as error:
        raise UserError(f"{name}: not a whole zip archive ({error}); download it again") from None
    return {member: members[member] for member in sorted(members)}


def _add(members: dict[str, Blob], member: str, blob: Blob, archive: str) -> None:
    path = member.replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
        raise UserError(f"{archive}: member {member!r} leads out of the archive; do not trust this file")
    path = path.removeprefix("./")
    if path in members:
        raise UserError(f"{archive}: member {member!r} occurs twice; the archive is ambiguous")
    if not is_hidden(path):
        members[path] = blob


def tar_gz_files(blob: Blob, name: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The members of a ``.tar.gz`` that ``wanted`` accepts, by base name, in memory.

    Raises:
        UserError: not a whole ``.tar.gz``.
    """
    found = {}
    try:
        with open_stream(blob) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
            for info in tar:
                base = info.name.rsplit("/", 1)[-1]
                if info.isfile() and wanted(base) and (member := tar.extractfile(info)) is not None:
                    found[base] = member.read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{name}: not a whole .tar.gz archive ({error}); download it again") from None
    return found
