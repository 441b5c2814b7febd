"""Reading all shards again: is every byte what the manifest says?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.loader import read_shard
from pipeline.manifest import IGNORE, Manifest, Shard, read_manifest
from pipeline.shards import sha256_of


def verify(folder: Path) -> list[str]:
    """What is wrong with the shards in ``folder``, a line each; nothing when they are whole.

    Checks each shard's hash, its number of samples, that every sample decodes to the manifest's shape and that
    its target is a class; then the class histogram.

    Raises:
        UserError: there is no manifest, or a shard is missing.
    """
    manifest = read_manifest(folder)
    wrong: list[str] = []
    total = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"verify {manifest.dataset}") as bar:
        for name, split in manifest.splits.items():
            counts = [0] * manifest.num_classes
            before = len(wrong)
            for shard in split.shards:
                wrong += _verify_shard(folder / shard.name, shard, manifest, counts)
                bar.update(shard.bytes)
            if len(wrong) == before and counts != split.histogram:
                wrong.append(f"{name}: the classes counted are not the manifest's histogram")
    return wrong


def _verify_shard(path: Path, shard: Shard, manifest: Manifest, counts: list[int]) -> list[str]:
    """What is wrong with one shard; adds what it holds to ``counts``."""
    if sha256_of(path) != shard.sha256:
        return [f"{path.name}: its hash is not the manifest's"]
    outside = 0
    try:
        for _, target in read_shard(path, shard, manifest):
            if isinstance(target, int):
                values, numbers = [target], [1]
            else:
                found, times = np.unique(target, return_counts=True)
                values, numbers = found.tolist(), times.tolist()
            for value, number in zip(values, numbers, strict=True):
                if 0 <= value < manifest.num_classes:
                    counts[value] += number
                elif value != IGNORE or manifest.task == "classification":
                    outside += number
    except UserError as error:
        return [str(error)]
    return [f"{path.name}: {outside} targets are no class"] if outside else []
