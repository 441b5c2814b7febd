"""Folder layouts that people really have: archives in place of folders, a wrapping folder, conventional names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from pipeline.core.errors import UserError
from pipeline.data.raw.archives import tar_members, zip_members
from pipeline.data.raw.blobs import Blob, Tree, below, is_image
from pipeline.data.raw.compressed import COMPRESSED, decompressed
from pipeline.data.raw.listing import Sample, Source
from pipeline.data.shards.manifest import PassedOver

SPLITS = ("train", "val", "test")


_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


_SPLIT_ENDING = re.compile(r"[ _-]?(set|data|split|images?|imgs?)$")


_ARCHIVES = (".tar", ".zip", *COMPRESSED)


_LIKE_A_SPLIT = re.compile(
    r"(train(ing)?|trn|val(id(ation)?)?|dev|eval(uation)?|test(ing)?|tst|hold[ _-]?out)"
    r"[^a-z]*(set|data|split|images?|imgs?|fold)?[^a-z]*"
)


def split_of(folder: str) -> str | None:
    """Return the split that a folder's name stands for (``Valid``, ``training_set``), or None."""
    name = folder.casefold()
    return _SPLIT_WORDS.get(name) or _SPLIT_WORDS.get(_SPLIT_ENDING.sub("", name))


def split_in_path(path: str) -> str | None:
    """Return the split that the words of a file's path name (``data/train-00000-of-00002.parquet``), or None.

    Raises:
        UserError: they name several.
    """
    words = re.split(r"[^A-Za-z]+", path)
    found = {split for word in words if (split := _SPLIT_WORDS.get(word.casefold())) is not None}
    if len(found) > 1:
        raise UserError(f"{path}: its name tells of {' and '.join(sorted(found))}; rename it after one split")
    return next(iter(found), None)


def is_like_a_split(folder: str) -> bool:
    """Return True when a folder's name reads like that of a split, known to `split_of` or not (``train2017``)."""
    return _LIKE_A_SPLIT.fullmatch(folder.casefold()) is not None


def split_folders(tree: Tree, where: str) -> dict[str, str]:
    """Return the top folder of each split that ``tree`` has, in the order train, val, test.

    Raises:
        UserError: two folders stand for one split.
    """
    found: dict[str, str] = {}
    for folder in tree.folders:
        split = split_of(folder)
        if split in found:
            raise UserError(
                f"{where}: the folders {found[split]!r} and {folder!r} both stand for {split}; keep one"
            )
        if split is not None:
            found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def unwrapped(tree: Tree, is_content: Callable[[str], bool]) -> Tree:
    """Return the tree below the folders that wrap all else.

    A folder wraps when it is the only one, ``is_content`` does not know its name, and folders lie in it. Other files
    may lie beside it, but no image.
    """
    while len(folders := tree.folders) == 1 and not is_content(folders[0]):
        inner = below(tree, folders[0])
        if not inner.folders or any(is_image(name) for name in tree if "/" not in name):
            break
        tree = inner
    return tree


def archive_stem(name: str) -> str | None:
    """Return the path ``name`` of an archive without its suffix, or None when it is no archive that can be read."""
    lower = name.lower()
    if not lower.endswith(_ARCHIVES):
        return None
    return name[: -len(next(suffix for suffix in _ARCHIVES if lower.endswith(suffix)))]


def with_archives(source: Source, is_content: Callable[[str], bool], names_count: bool = False) -> Tree:
    """Return the files of ``source`` with the content of each archive in the place of a folder called like it.

    The name of an archive that is the only one does not count, unless ``names_count``: it is a wrapping folder.
    Beside images only those archives are opened that ``is_content`` knows by name, and none beside a folder called
    like it: that one was unpacked from it.

    Raises:
        UserError: a damaged archive, or two of one name.
    """
    tree = source.files
    stems = {name: stem for name in tree if (stem := archive_stem(name)) is not None}
    if any(is_image(name) for name in tree):
        stems = {name: stem for name, stem in stems.items() if is_content(PurePosixPath(stem).name)}
        stems = {name: stem for name, stem in stems.items() if not below(tree, stem)}
    if len(set(stems.values())) < len(stems):
        raise UserError(
            f"{source.root}: two of the archives {', '.join(stems)} have one name; keep one of them"
        )
    blobs = {name: blob for name, blob in tree.items() if name not in stems}
    skipped = dict(tree.skipped)
    wraps = len(stems) == 1 and not names_count
    for name, stem in stems.items():
        members = _without_own_name(read_archive(source, name), PurePosixPath(stem).name)
        folder = name if wraps else stem
        blobs.update({f"{folder}/{member}": blob for member, blob in members.items()})
        skipped.update({f"{folder}/{member}": why for member, why in members.skipped.items()})
    return Tree(blobs, skipped)


def _without_own_name(tree: Tree, name: str) -> Tree:
    """Return ``tree`` below the folder ``name`` where everything lies in it: ``train.zip`` often holds ``train/``."""
    return below(tree, name) if all(path.startswith(f"{name}/") for path in (*tree, *tree.skipped)) else tree


def read_archive(source: Source, name: str) -> Tree:
    """Return the members of the archive ``name`` among the files of ``source``.

    Raises:
        UserError: it is damaged, or leads out of itself.
    """
    blob = source.files[name]
    if name.lower().endswith(".zip"):
        return zip_members(blob, name)
    if not name.lower().endswith(".tar"):
        key = hashlib.sha256(f"{name}{blob.version}".encode(errors="surrogateescape")).hexdigest()[:16]
        blob = decompressed(blob, name, source.scratch / f"{key}.tar")
    return tar_members(blob, name)


def account(tree: Tree, samples: Iterable[Sample], left_out: Iterable[Blob] = ()) -> dict[str, PassedOver]:
    """Return what of ``tree`` is in none of ``samples`` and not ``left_out``, by reason."""
    taken = set(left_out)
    for sample in samples:
        taken.update(item for item in (sample.image, sample.target) if isinstance(item, Blob))
    reasons: dict[str, list[str]] = {}
    for name, why in tree.skipped.items():
        reasons.setdefault(why, []).append(name)
    for name, blob in tree.items():
        if blob not in taken:
            reasons.setdefault(_reason(name), []).append(name)
    return {why: PassedOver(count=len(names), example=min(names)) for why, names in sorted(reasons.items())}


def _reason(name: str) -> str:
    if name.endswith("/"):
        return "empty folder"
    if is_image(name):
        return "image that no sample uses"
    suffix = PurePosixPath(name).suffix.lower()
    if not suffix:
        return "no suffix of an image: none"
    return f"no suffix of an image: {suffix if re.fullmatch('[.][a-z0-9]{1,8}', suffix) else 'others'}"


def describe(tree: Tree) -> str:
    """Return the first names at the top of ``tree``, for a message that says what was found."""
    names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in tree})
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more or "nothing"
