"""Tiny images whose classes are colours, in shards of twenty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.shards.layout import Encoding
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params, parse_params
from tests.pipeline.shards import write_splits

SIZE = (8, 12)
CLASSES = ["red", "green", "blue"]


def draw(task: str, count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Noise with a channel made brighter: the class of the image, or of its left and right half."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 128, (count, *SIZE, 3), dtype=np.uint8)
    if task == "classification":
        targets = random.integers(0, 3, count)
        for image, target in zip(images, targets, strict=True):
            image[..., target] += 100
        return images, targets
    if task == "multilabel":
        present = random.integers(0, 2, (count, 3)).astype(np.uint8)
        images += 100 * present[:, None, None, :]
        return images, present
    masks = np.zeros((count, *SIZE), dtype=np.uint8)
    for image, mask in zip(images, masks, strict=True):
        for half in (slice(0, 6), slice(6, 12)):
            target = random.integers(0, 3)
            mask[:, half] = target
            image[:, half, target] += 100
        mask[0, 0] = 255
    return images, masks


def write_shards(
    folder: Path,
    task: str = "classification",
    encoding: Encoding = "raw",
    counts: dict[str, int] | None = None,
) -> Manifest:
    splits = {
        split: draw(task, count, number)
        for number, (split, count) in enumerate((counts or {"train": 50, "val": 21}).items())
    }
    palette = [(200, 0, 0), (0, 200, 0), (0, 0, 200)] if task == "segmentation" else None
    return write_splits(folder, task, CLASSES, splits, per_shard=20, encoding=encoding, palette=palette)


def toy_params(**sections: Any) -> Params:
    values: dict[str, Any] = {
        "data": "toy",
        "datasets": {"toy": {"reader": "image_folder", "sizes": [list(SIZE)]}},
        "model": {"dim": 8, "depth": 2, "dropout": 0.1},
        "train": {"phases": [{"optimizer": "adamw", "epochs": 1}]},
        "machine": {"device": "cpu"},
    }
    return parse_params(values | sections)
