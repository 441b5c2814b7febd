"""Write toy shards from arrays, for tests and for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.shards.encoding import Pixels, encode_image, members
from pipeline.data.shards.layout import Encoding, shard_name
from pipeline.data.shards.manifest import FILE_NAME, Manifest, Split
from pipeline.data.shards.targets import IGNORE, TARGETS, Target
from pipeline.data.shards.writer import ShardWriter

Arrays = tuple[Pixels, NDArray[Any]]
"""Images uint8 (K, H, W, 3), which repeat where there are fewer than targets; targets (N, ...) as the loader gives."""


def write_splits(
    folder: Path,
    task: str,
    class_names: Sequence[str],
    splits: Mapping[str, Arrays],
    *,
    per_shard: int,
    encoding: Encoding = "raw",
    palette: list[tuple[int, int, int]] | None = None,
) -> Manifest:
    """Write one dataset into ``folder``, which must not be there yet, and return its manifest."""
    folder.mkdir(parents=True)
    written = {
        split: _write_split(folder, task, len(class_names), split, arrays, per_shard, encoding)
        for split, arrays in splits.items()
    }
    first, _ = next(iter(splits.values()))
    manifest = Manifest(
        dataset="toy",
        task=task,
        class_names=list(class_names),
        palette=palette,
        size=first.shape[1:3],
        channels=3,
        filter="box",
        geometry="squash",
        encoding=encoding,
        mean=[0.3] * 3,
        std=[0.2] * 3,
        splits=written,
        source_fingerprint="none",
    )
    (folder / FILE_NAME).write_text(manifest.model_dump_json())
    return manifest


def _write_split(
    folder: Path, task: str, classes: int, split: str, arrays: Arrays, per_shard: int, encoding: Encoding
) -> Split:
    images, targets = arrays
    shards = []
    for index, start in enumerate(range(0, len(targets), per_shard)):
        name = shard_name(split, index)
        with ShardWriter(folder / name) as writer:
            for key in range(start, min(start + per_shard, len(targets))):
                content = encode_image(images[key % len(images)], encoding, 95)
                target = _target(task, targets[key])
                writer.add(key, members(content, target, TARGETS[task], encoding))
        shards.append(writer.shard(name))
    if task == "multilabel":
        histogram = targets.sum(0)
    else:
        histogram = np.bincount(targets.ravel(), minlength=IGNORE + 1)[:classes]
    ignored = int(np.count_nonzero(targets == IGNORE)) if task == "segmentation" else 0
    return Split(samples=len(targets), shards=shards, histogram=histogram.tolist(), ignored_pixels=ignored)


def _target(task: str, value: Any) -> Target:
    if task == "classification":
        return int(value)
    return tuple(np.flatnonzero(value).tolist()) if task == "multilabel" else value
