"""Which raw files a dataset has, and what reads them: a small file that `prepare` depends on in their place.

It holds nothing that a copy of the raw files on another machine would change.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.core.atomic import write_atomically
from pipeline.core.errors import UserError, printable
from pipeline.data.raw.blobs import Tree


def fingerprint_file(data: str) -> Path:
    """Return the list of raw files of dataset ``data``, relative to the working folder."""
    return Path("data/fingerprints") / f"{data}.json"


class Kind(BaseModel):
    """Files of one suffix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: int
    bytes: int


class Fingerprint(BaseModel):
    """What `prepare` depends on in place of the raw files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    files: int
    bytes: int
    suffixes: dict[str, Kind]
    digest: str
    """sha256 over the sorted names and sizes."""
    content: str | None = None
    """sha256 over names and content, or None where the content was not read (see `machine.fingerprint`)."""
    reader: str = ""
    """sha256 over the source of the reader and of what it imports of `pipeline.data.readers`: an edit of another reader
    prepares nothing again."""


def fingerprint(data: str, files: Tree, reader: str = "", content: str | None = None) -> Fingerprint:
    """Return the names and sizes of ``files``, summed up, and the digest of their ``reader``."""
    digest = hashlib.sha256()
    suffixes: dict[str, list[int]] = {}
    for name, blob in sorted(files.items()):
        digest.update(f"{name}\0{blob.length}\n".encode(errors="surrogateescape"))
        suffixes.setdefault(printable(PurePosixPath(name).suffix.lower()), []).append(blob.length)
    return Fingerprint(
        dataset=data,
        files=len(files),
        bytes=sum(blob.length for blob in files.values()),
        suffixes={suffix: Kind(files=len(sizes), bytes=sum(sizes)) for suffix, sizes in suffixes.items()},
        digest=digest.hexdigest(),
        content=content,
        reader=reader,
    )


def write_fingerprint(result: Fingerprint, path: Path) -> None:
    """Write ``result`` to ``path``; an unchanged one is left untouched."""
    text = result.model_dump_json(indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    write_atomically(path, text)


def read_fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint in ``path``.

    Raises:
        UserError: missing or unreadable.
    """
    try:
        return Fingerprint.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `uv run dvc repro`, which writes it") from None
    except ValidationError:
        raise UserError(f"{path}: not a fingerprint; delete it and run `uv run dvc repro`") from None
