"""Check that shards still are what was written: every byte is read and checked against the manifest's hashes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tqdm import tqdm

from pipeline.core.errors import UserError
from pipeline.core.storage import Storage
from pipeline.data.shards.manifest import FILE_NAME, INFO_NAME, Manifest, Shard, read_manifest


def verify(folder: Path) -> str:
    """Return a line that says all is well with the shards of ``folder``, wherever its manifest says they lie.

    Raises:
        UserError: names the shards that are missing or have other bytes.
    """
    manifest = read_manifest(folder)
    storage = Storage(manifest.location or str(folder))
    shards = all_shards(manifest)
    bad = []
    with tqdm(total=sum(shard.bytes for shard in shards), unit="B", unit_scale=True, desc="verify") as bar:
        for shard in shards:
            if not storage.holds(shard.name, shard.bytes, shard.sha256):
                bad.append(shard.name)
            bar.update(shard.bytes)
    if bad:
        raise UserError(
            f"{storage.location}: {len(bad)} of {len(shards)} shards are not what was written, first {bad[0]}; "
            f"delete {folder.parent} and run `uv run dvc repro`"
        )
    named = {shard.name for shard in shards} | {FILE_NAME, INFO_NAME}
    strangers = [name for name in storage.names() if name not in named]
    if strangers:
        raise UserError(f"{storage.location}: {strangers[0]} is not in the manifest; remove it")
    samples = sum(split.samples for split in manifest.splits.values())
    return f"{storage.location}: all {len(shards)} shards are whole, {samples} samples"


def fetch(folder: Path) -> Path:
    """Return the folder of the shards whose manifest lies in ``folder``, copied there from an object store if need be.

    Shards that are there already in full length stay. What was copied is checked against its hash.

    Raises:
        UserError: a shard has other bytes than the manifest says.
    """
    manifest = read_manifest(folder)
    if manifest.location is None:
        return folder
    remote, here = Storage(manifest.location), Storage(str(folder))
    for shard in tqdm(all_shards(manifest), desc=f"fetch {manifest.location}", unit="shard"):
        if not _is_here(folder, shard):
            with (
                here.writing(shard.name) as path,
                remote.opening(shard.name) as stream,
                path.open("wb") as file,
            ):
                shutil.copyfileobj(stream, file, 1 << 22)
            if not here.holds(shard.name, shard.bytes, shard.sha256):
                here.remove(shard.name)
                raise UserError(f"{remote.place(shard.name)}: not what was written; prepare it again")
    return folder


def all_shards(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]


def _is_here(folder: Path, shard: Shard) -> bool:
    path = folder / shard.name
    return path.exists() and path.stat().st_size == shard.bytes
