"""The description of a dataset that has no shards, for measurements on noise."""

from __future__ import annotations

from pipeline.data.shards.manifest import Manifest


def noise_manifest(task: str, classes: int, size: tuple[int, int], channels: int = 3) -> Manifest:
    """Return the manifest of a dataset of noise.

    Args:
        size: height and width in pixels.
    """
    return Manifest(
        dataset="noise",
        task=task,
        class_names=[str(number) for number in range(classes)],
        size=size,
        channels=1 if channels == 1 else 3,
        filter="box",
        geometry="squash",
        encoding="raw",
        mean=[0.5] * channels,
        std=[0.25] * channels,
        splits={},
        source_fingerprint="noise",
    )
