"""Raw files that are missing: written or downloaded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.core.atomic import new_folder
from pipeline.core.errors import UserError, did_you_mean
from pipeline.core.hashing import configuration_hash
from pipeline.core.locks import exclusive_lock
from pipeline.core.paths import work_folder
from pipeline.core.storage import is_remote
from pipeline.data.raw.blobs import Tree, list_files
from pipeline.data.readers import find_reader
from pipeline.fingerprint import embedded
from pipeline.fingerprint.downloads import download, downloads
from pipeline.params import DatasetParams

EMBEDDED: dict[str, Callable[[Path], None]] = {
    "digits": embedded.write_digits,
    "digit_scenes": embedded.write_digit_scenes,
}
"""What writes a missing root, by the name that ``source:`` in params.yaml gives."""


def acquire(data: str, params: DatasetParams, root: str) -> Tree:
    """Return the files below ``root``, after writing or downloading them there when it is missing or empty.

    Raises:
        UserError: nothing is there and ``source`` names no way to get it.
    """
    reader = find_reader(params.reader)
    if not is_remote(root) and not Path(root).is_dir():
        if params.source is None:
            raise UserError(f"{data}: no folder {root}; {reader.files}; or set machine.roots.{data}")
        write = _writer(data, params.source)
        # Several queued experiments, or several datasets in one root, may find it missing at once.
        with exclusive_lock(work_folder("acquire", f"{configuration_hash(root)}.lock"), wait=True):
            if not Path(root).is_dir():
                with new_folder(Path(root)) as folder:
                    write(folder)
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
    """Return what fills a missing root."""
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
