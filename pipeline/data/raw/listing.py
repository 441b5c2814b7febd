"""What a reader gives: every sample of every split as a cheap reference; nothing is decoded yet."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError, printable
from pipeline.data.raw.blobs import Blob, Tree, is_image
from pipeline.data.shards.manifest import LeftOut, PassedOver

KEYS = 1 << 63
"""Of a million samples two share a key in one of 20 million cases; that is refused."""


UNKNOWN = -1
"""In `Labels.train_ids`: an id that masks must not hold."""


Options = dict[str, Any]
"""As `DatasetParams.options`."""
Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class Row:
    """Image ``index`` of an ``.npy`` array of uint8 (N, H, W) or (N, H, W, 3), read through a memory map.

    ``version`` changes when the array is rebuilt from other raw files.
    """

    file: str
    index: int
    version: str = ""

    def read(self) -> NDArray[np.uint8]:
        """Return the image, uint8 (H, W) or (H, W, 3)."""
        return np.asarray(_mapped(self.file)[self.index])


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its class, its classes in ascending order, or its mask. ``name`` is unique in its split."""

    name: str
    image: Blob | Row
    target: int | tuple[int, ...] | Blob
    group: str | None = field(default=None, repr=False)
    """Samples of one group, frames of a video say, are in one fold."""

    @property
    def key(self) -> int:
        """Its place in its split, below `KEYS`: a hash of its name, so it stays when others come and go."""
        return int.from_bytes(stable_hash(self.name, 8)) % KEYS


@dataclass(frozen=True)
class Labels:
    """How the pixels of raw masks become train ids, of which 255 = ignore."""

    train_ids: tuple[int, ...]
    """By id, 256 entries; `UNKNOWN` = refused."""
    palette: tuple[Colour, ...]
    """A colour for each class."""
    colours: tuple[tuple[Colour, int], ...] = ()
    """Of masks in colours: each colour with its train id; others are refused."""


@dataclass(frozen=True)
class Listing:
    """All samples of a dataset: with ``labels`` the targets are masks, else class indices or tuples of them."""

    class_names: list[str]
    splits: dict[str, list[Sample]]
    labels: Labels | None = None
    left_out: dict[str, list[LeftOut]] = field(default_factory=dict)
    """Raw files that cannot become samples, known without decoding (an image with no mask)."""
    passed_over: dict[str, PassedOver] | None = None
    """Everything else among the raw files that is in no sample, by reason; None where the reader, which looks for
    files of known names only, does not count it."""

    @property
    def task(self) -> str:
        """Return the task that the targets are for: a name in `pipeline.data.shards.targets.TARGETS`."""
        if self.labels is not None:
            return "segmentation"
        several = (
            isinstance(sample.target, tuple) for samples in self.splits.values() for sample in samples[:1]
        )
        return "multilabel" if any(several) else "classification"


@dataclass(frozen=True)
class Source:
    """What a reader reads: the files below the root, by relative name, and a folder for what it unpacks."""

    root: str
    files: Tree
    scratch: Path
    options: Options

    @cached_property
    def version(self) -> str:
        """A digest of the files' names and versions."""
        return hashlib.sha256(repr(sorted(self.files.items(), key=itemgetter(0))).encode()).hexdigest()


@dataclass(frozen=True)
class Reader:
    """A raw layout: ``read`` lists it, ``files`` says in one line which files belong in the root."""

    read: Callable[[Source], Listing]
    files: str
    options: frozenset[str] = frozenset()


def class_samples(folder: Tree, where: str, classes: dict[str, int]) -> list[Sample]:
    """Return the images of a folder per class, named ``<where>/<class>/<file>``.

    Raises:
        UserError: a class that ``classes`` lacks, or no image in a class folder.
    """
    counts: dict[str, int] = {}
    samples = []
    for name, blob in folder.items():
        class_name, separator, _ = name.partition("/")
        if not separator:
            continue
        key = normal_name(class_name)
        if key not in classes:
            raise UserError(
                f"{where}: class {class_name!r} is not among the {len(classes)} classes of train; "
                "move or remove that folder"
            )
        counts.setdefault(class_name, 0)
        if is_image(name):
            counts[class_name] += 1
            samples.append(Sample(f"{where}/{name}", blob, classes[key]))
    empty = [class_name for class_name, count in counts.items() if count == 0]
    if empty:
        raise UserError(f"{where}/{empty[0]}: no image in this class folder; add images or remove the folder")
    return samples


def class_index(names: Iterable[str]) -> dict[str, int]:
    """Return the index of each class: names in normal form, sorted by code point.

    Raises:
        UserError: a name that is not UTF-8, or two names of one normal form.
    """
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(normal_name(name), name)
        if other != name:
            raise UserError(
                f"the class folders {other!a} and {name!a} have one name in two spellings of Unicode; join them"
            )
        if not name.isascii() and name != name.encode(errors="replace").decode():
            raise UserError(f"class {printable(name)!r}: its name is not UTF-8; rename that folder")
    return {name: i for i, name in enumerate(sorted(spelled))}


def normal_name(name: str) -> str:
    """Return ``name`` in Unicode's composed form: file systems differ in how they spell an accented letter."""
    return unicodedata.normalize("NFC", name)


def shuffled(samples: list[Sample], salt: str) -> list[Sample]:
    """Return ``samples`` in an order that depends on nothing but their names and ``salt``.

    Sorted by a hash: the same on every machine and library version, and one more sample leaves the order of
    the others as it was.
    """

    return sorted(samples, key=lambda sample: stable_hash(f"{salt}:{sample.name}", 16))


def stable_hash(text: str, length: int) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=length).digest()


@lru_cache(maxsize=8)
def _mapped(file: str) -> NDArray[Any]:
    return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
