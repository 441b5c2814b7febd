"""Shards of noise to measure on: smooth, so that JPEG has about as much work as with photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.shards.encoding import Pixels
from pipeline.data.shards.layout import Encoding
from pipeline.data.shards.manifest import Manifest
from tests.pipeline.shards import write_splits

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
    splits = {
        split: (
            draw(min(count, per_shard), size, number),
            np.random.default_rng(number).integers(0, CLASSES, count),
        )
        for number, (split, count) in enumerate(samples.items())
    }
    names = [str(number) for number in range(CLASSES)]
    return write_splits(folder, "classification", names, splits, per_shard=per_shard, encoding=encoding)
