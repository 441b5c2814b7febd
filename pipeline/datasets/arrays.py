"""Datasets whose images lie in arrays: read once, put into ``.npy`` files in the scratch folder, then mapped.

So no worker ever holds a whole dataset, and images are read by index like everything else.
"""

from __future__ import annotations

import gzip
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.files import Blob, Tree, open_stream
from pipeline.datasets.listing import Row, Sample, Source
from pipeline.errors import UserError

Arrays = tuple[NDArray[np.uint8], Sequence[int]]
"""Images uint8 (N, H, W) or (N, H, W, 3) and N class indices."""


def staged(source: Source, name: str, load: Callable[[], Arrays], classes: int) -> list[Sample]:
    """Samples ``<name>[<index>]`` of the arrays that ``load`` gives; they are loaded once per scratch folder.

    Raises:
        UserError: not one label per image, a label outside 0..``classes`` - 1, or images not uint8.
    """
    file = source.scratch / f"{name}.npy"
    labels_file = source.scratch / f"{name}.labels.npy"
    if not labels_file.exists():
        images, labels = load()
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
            raise UserError(
                f"{name}: got {images.dtype} images {images.shape} and {len(labels)} labels, "
                "expected uint8 images and one label each; download it again"
            )
        source.scratch.mkdir(parents=True, exist_ok=True)
        for path, array in ((file, images), (labels_file, np.asarray(labels, np.int64))):
            partial = path.with_suffix(".partial")
            with partial.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
            partial.replace(path)
    found = np.load(labels_file, allow_pickle=False)
    if found.size and not (found.min() >= 0 and found.max() < classes):
        raise UserError(
            f"{name}: labels from {found.min()} to {found.max()}, expected 0 to {classes - 1}; "
            "is it the file of another dataset?"
        )
    version = source.version
    return [
        Sample(f"{name}[{i}]", Row(str(file), i, version), label) for i, label in enumerate(found.tolist())
    ]


def need(files: Tree, names: Sequence[str], root: str, hint: str) -> Blob:
    """The first of ``names`` (or a path ending in it) among ``files``.

    Raises:
        UserError: none is there.
    """
    for name in names:
        for path, blob in files.items():
            if path == name or path.endswith("/" + name):
                return blob
    raise UserError(f"{root}: no {' or '.join(names)}; {hint}")


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


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, lists, strings, numbers and NumPy arrays, and nothing else: it can run no code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")


def _encode_latin1(text: str, encoding: str) -> bytes:
    """What Python 3 writes bytes as in old pickle protocols; no other codec is let in."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def load_pickle(stream: IO[bytes], name: str) -> dict[str, Any]:
    """A pickled dict of plain data and arrays, its keys as text (CIFAR's and Imagenet64's official files).

    Raises:
        UserError: not such a pickle; one that asks for anything else is refused before it can act.
    """
    try:
        content = _ArrayUnpickler(stream, encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as e:
        raise UserError(
            f"{name}: not a pickle of arrays ({e}); download it again from its official page"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{name}: holds a {type(content).__name__}, expected a dict of arrays")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def planes_to_pixels(data: Any, side: int, name: str) -> NDArray[np.uint8]:
    """Rows of ``3 * side * side`` values, colour by colour, as uint8 (N, side, side, 3).

    Raises:
        UserError: rows of another length or type.
    """
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * side * side,):
        raise UserError(
            f"{name}: no uint8 rows of {3 * side * side} values; is it the file of another dataset?"
        )
    return np.ascontiguousarray(data.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))
