"""Which raw files a dataset has, and what reads them: a cheap stand-in for hashing them, so that new ones are noticed.

Only names and sizes count. A file replaced by another of the same name and size is not seen; delete the
dataset's shards to prepare again then.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.datasets import embedded, find_reader
from pipeline.datasets.downloads import download, downloads
from pipeline.datasets.files import Tree, is_remote, list_files
from pipeline.errors import UserError, did_you_mean, printable
from pipeline.params import DatasetParams, configuration_hash
from pipeline.paths import work_folder
from pipeline.workplace import only_one

EMBEDDED: dict[str, Callable[[Path], None]] = {
    "digits": embedded.write_digits,
    "digit_scenes": embedded.write_digit_scenes,
}
"""What writes a missing root, by the name that ``source:`` in params.yaml gives."""


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
    reader: str = ""
    """sha256 over the source of the reader and of what it imports of `pipeline.datasets`: an edit of another reader
    prepares nothing again."""


def acquire(data: str, params: DatasetParams, root: str) -> Tree:
    """The files below ``root``, after writing or downloading them there when it is missing or empty.

    Raises:
        UserError: nothing is there and ``source`` names no way to get it.
    """
    reader = find_reader(params.reader)
    if not is_remote(root) and not Path(root).is_dir():
        if params.source is None:
            raise UserError(f"{data}: no folder {root}; {reader.files}; or set machine.roots.{data}")
        write = _writer(data, params.source)
        # Several queued experiments, or several datasets in one root, may find it missing at once.
        with only_one(work_folder("acquire", f"{configuration_hash(root)}.lock"), wait=True):
            if not Path(root).is_dir():
                _write_whole(Path(root), write)
    try:
        files = list_files(root)
    except OSError as error:
        raise UserError(
            f"{data}: {root} cannot be listed: {error}; mend it or set machine.roots.{data}"
        ) from None
    if not files:
        raise UserError(f"{data}: {root} is empty; {reader.files}")
    return files


def _writer(data: str, source: str) -> Callable[[Path], None]:
    """What fills a missing root."""
    if source in EMBEDDED:
        return EMBEDDED[source]
    known = downloads()
    if source not in known:
        names = sorted([*EMBEDDED, *known])
        raise UserError(
            f"datasets.{data}.source: got {source!r}{did_you_mean(source, names)}, "
            f"allowed: {', '.join(names)}"
        )
    return lambda root: download(known[source], root)


def fingerprint(data: str, files: Tree, reader: str = "") -> Fingerprint:
    """Names and sizes of ``files``, summed up, and the digest of their ``reader``."""
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
        reader=reader,
    )


def reader_digest(name: str) -> str:
    """`source_digest` of the reader called ``name``.

    Raises:
        UserError: there is none.
    """
    return source_digest(find_reader(name).read.__module__)


def source_digest(*modules: str) -> str:
    """sha256 over the source of ``modules`` and of all that they import of `pipeline.datasets`."""
    sources: dict[str, bytes] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in sources:
            sources[name] = Path(str(import_module(name).__file__)).read_bytes()
            imports = (
                node for node in ast.walk(ast.parse(sources[name])) if isinstance(node, ast.ImportFrom)
            )
            todo += [
                str(node.module) for node in imports if f"{node.module}".startswith("pipeline.datasets.")
            ]
    return hashlib.sha256(b"\0".join(sources[name] for name in sorted(sources))).hexdigest()


def write_fingerprint(result: Fingerprint, path: Path) -> None:
    """Write ``result`` to ``path``; an unchanged one is left untouched."""
    text = result.model_dump_json(indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_fingerprint(path: Path) -> Fingerprint:
    """The fingerprint in ``path``.

    Raises:
        UserError: missing or unreadable.
    """
    try:
        return Fingerprint.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `uv run dvc repro`, which writes it") from None
    except ValidationError:
        raise UserError(f"{path}: not a fingerprint; delete it and run `uv run dvc repro`") from None


def _write_whole(root: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside ``root``, then rename it: a root that exists is whole."""
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    try:
        partial.mkdir()
        write(partial)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
