"""Check that shards still are what was written: every byte is read and checked against the manifest's hashes."""

from __future__ import annotations

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


def all_shards(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]
