"""Shards of noise to measure on: smooth, so that JPEG has about as much work as with photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.shards.encoding import Pixels, encode_image, members
from pipeline.data.shards.layout import Encoding, shard_name
from pipeline.data.shards.manifest import FILE_NAME, Manifest, Split
from pipeline.data.shards.targets import TARGETS
from pipeline.data.shards.writer import ShardWriter

CLASSES = 10


def draw(count: int, size: tuple[int, int], seed: int) -> Pixels:
    """Draw blurred noise, uint8 (count, H, W, 3)."""
    height, width = size
    coarse = np.random.default_rng(seed).integers(0, 256, (count, height // 4, width // 4, 3), dtype=np.uint8)
    fine = np.random.default_rng(seed + 1).integers(-12, 13, (count, height, width, 3))
    smooth = np.stack([np.asarray(Image.fromarray(image).resize((width, height))) for image in coarse])
    return np.clip(smooth + fine, 0, 255).astype(np.uint8)


def write_shards(
    folder: Path, size: tuple[int, int], samples: dict[str, int], encoding: Encoding, per_shard: int = 2048
) -> Manifest:
    """Write shards of a ten-class dataset of that many ``samples`` per split; all shards have the same images."""
    folder.mkdir(parents=True)
    splits = {}
    for number, (split, count) in enumerate(samples.items()):
        images, shards = draw(min(count, per_shard), size, number), []
        targets = np.random.default_rng(number).integers(0, CLASSES, count)
        for index, start in enumerate(range(0, count, per_shard)):
            name, stop = shard_name(split, index), min(start + per_shard, count)
            with ShardWriter(folder / name) as writer:
                for key in range(start, stop):
                    content = encode_image(images[key - start], encoding, 95)
                    writer.add(key, members(content, int(targets[key]), TARGETS["classification"], encoding))
            shards.append(writer.shard(name))
        histogram = np.bincount(targets, minlength=CLASSES).tolist()
        splits[split] = Split(samples=count, shards=shards, histogram=histogram)
    manifest = Manifest(
        dataset="noise",
        task="classification",
        class_names=[str(number) for number in range(CLASSES)],
        size=size,
        channels=3,
        filter="box",
        geometry="squash",
        encoding=encoding,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        splits=splits,
        source_fingerprint="noise",
    )
    (folder / FILE_NAME).write_text(manifest.model_dump_json())
    return manifest
