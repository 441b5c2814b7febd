"""Tiny shards, written by stock webdataset: our reader is checked against another's writer."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from PIL import Image

from pipeline.data.shards.layout import Encoding
from pipeline.data.shards.manifest import FILE_NAME, Manifest, Shard, Split
from pipeline.params import Params, parse_params

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


def encode(array: np.ndarray[Any, Any], form: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, form)
    return content.getvalue()


def write_shards(
    folder: Path,
    task: str = "classification",
    encoding: Encoding = "raw",
    counts: dict[str, int] | None = None,
) -> Manifest:
    folder.mkdir(parents=True)
    splits = {}
    for number, (split, count) in enumerate((counts or {"train": 50, "val": 21}).items()):
        images, targets = draw(task, count, number)
        shards = []
        for start in range(0, count, 20):
            name = f"{split}-{start // 20:06d}.tar"
            stop = min(start + 20, count)
            with webdataset.TarWriter(str(folder / name), mtime=0) as writer:
                for key in range(start, stop):
                    image, target = images[key], targets[key]
                    sample: dict[str, Any] = {"__key__": f"{key:09d}"}
                    sample |= {"npy": image} if encoding == "raw" else {"png": encode(image, "PNG")}
                    if task == "classification":
                        sample["cls"] = int(target)
                    elif task == "multilabel":
                        sample["classes"] = " ".join(map(str, np.flatnonzero(target))).encode()
                    else:
                        sample |= (
                            {"mask.npy": target} if encoding == "raw" else {"mask.png": encode(target, "PNG")}
                        )
                    writer.write(sample)
            content = (folder / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            shards.append(Shard(name=name, samples=stop - start, bytes=len(content), sha256=digest))
        per_class = targets.sum(0) if task == "multilabel" else np.bincount(targets.ravel(), minlength=256)
        histogram = per_class[:3].tolist()
        ignored = int(np.count_nonzero(targets == 255)) if task == "segmentation" else 0
        splits[split] = Split(samples=count, shards=shards, histogram=histogram, ignored_pixels=ignored)
    manifest = Manifest(
        dataset="toy",
        task=task,
        class_names=CLASSES,
        palette=None if task != "segmentation" else [(200, 0, 0), (0, 200, 0), (0, 0, 200)],
        size=SIZE,
        channels=3,
        filter="box",
        geometry="squash",
        encoding=encoding,
        mean=[0.3, 0.3, 0.3],
        std=[0.2, 0.2, 0.2],
        splits=splits,
        source_fingerprint="none",
    )
    (folder / FILE_NAME).write_text(manifest.model_dump_json())
    return manifest


def toy_params(**sections: Any) -> Params:
    values: dict[str, Any] = {
        "data": "toy",
        "datasets": {"toy": {"reader": "image_folder", "sizes": [list(SIZE)]}},
        "model": {"dim": 8, "depth": 2, "dropout": 0.1},
        "train": {"phases": [{"optimizer": "adamw", "epochs": 1}]},
        "machine": {"device": "cpu"},
    }
    return parse_params(values | sections)
