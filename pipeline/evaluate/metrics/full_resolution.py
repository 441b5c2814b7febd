"""SegmentationMetrics measured where the labels were drawn: in the raw files, not in their resized copies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.core.paths import work_folder
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import read_mask
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.order import rank_slice
from pipeline.data.raw.blobs import Blob, Tree, list_files
from pipeline.data.raw.fingerprint import fingerprint
from pipeline.data.raw.listing import Labels, Sample, Source
from pipeline.data.raw.splits import arranged
from pipeline.data.readers import read
from pipeline.data.shards.folds import FOLD
from pipeline.data.shards.manifest import Manifest, RawSize
from pipeline.data.shards.targets import IGNORE
from pipeline.evaluate.metrics.base import Measurement
from pipeline.params import Params
from pipeline.tasks.metrics import Reduce
from pipeline.tasks.segmentation import full_size_mask
from pipeline.tasks.segmentation_metrics import SegmentationMetrics

Pixels = npt.NDArray[np.uint8]


def raw_samples(params: Params, manifest: Manifest, split: str) -> tuple[list[Sample], Labels]:
    """Return the raw files behind the shards of ``split``, in the shards' order, and what their ids mean.

    Raises:
        UserError: they are not there, or are not those the shards were made of.
    """
    root = params.root(params.data)
    try:
        files = list_files(root)
    except OSError:
        files = Tree({})
    if not files:
        raise UserError(f"the raw files are not in {root}")
    if fingerprint(params.data, files).digest != manifest.source_fingerprint:
        raise UserError(f"the raw files in {root} are not those that the shards were made of")
    dataset = params.dataset
    source = Source(root, files, work_folder("original", manifest.source_fingerprint), dataset.options)
    listing = arranged(read(dataset.reader, source), dataset, params.data)
    assert listing.labels is not None
    left_out = {entry.name for entry in manifest.split(split).left_out}
    raw = f"{FOLD}{manifest.fold}" if split == "val" and manifest.fold is not None else split
    samples = [sample for sample in listing.splits[raw] if sample.name not in left_out]
    if len(samples) != manifest.split(split).samples:
        raise UserError(
            f"{len(samples)} raw files for {manifest.split(split).samples} prepared samples of {split}"
        )
    return samples, listing.labels


@dataclass
class FullResolution:
    """Counts at the size of each label file while a rank measures its share of a split.

    ``samples`` are this rank's, in the order of its batches. A label file that cannot be used is left out and
    named in ``left_out``.
    """

    samples: list[Sample]
    labels: Labels
    heights: RawSize | None
    widths: RawSize | None
    geometry: str
    metrics: SegmentationMetrics
    left_out: list[str] = field(default_factory=list)
    _seen: int = 0

    @classmethod
    def open(cls, measurement: Measurement) -> Self | None:
        """Return the metric for a split; None where there is nothing to see.

        That is a classification, images that already have the labels' size, and raw files that are not there or
        are others; only the last is told, on one line.
        """
        params, manifest, split = measurement.params, measurement.manifest, measurement.split
        part = manifest.split(split)
        raw = [(size.min, size.max) for size in (part.raw_height, part.raw_width) if size is not None]
        if not manifest.target.spatial or raw == [(length, length) for length in manifest.size]:
            return None
        try:
            samples, labels = raw_samples(params, manifest, split)
        except UserError as error:
            if measurement.rank == 0:
                print(f"{split}: no mIoU at the labels' own size: {error}")
            return None
        mine, start = [], 0
        for shard in part.shards:
            mine += samples[start : start + shard.samples][
                rank_slice(shard.samples, measurement.rank, measurement.world_size)
            ]
            start += shard.samples
        metrics = SegmentationMetrics(manifest.num_classes, device=measurement.device)
        return cls(mine, labels, part.raw_height, part.raw_width, manifest.geometry, metrics)

    def on_batch(self, batch: Batch, logits: Tensor) -> None:  # noqa: ARG002
        """Count the next ``len(logits)`` samples; logits are float (B, outputs, h, w)."""
        samples = self.samples[self._seen : self._seen + len(logits)]
        self._seen += len(logits)
        with ThreadPoolExecutor() as pool:
            for sample, own, target in zip(samples, logits, pool.map(self._target, samples), strict=True):
                if isinstance(target, str):
                    self.left_out.append(f"{sample.name}: {target}")
                    continue
                truth = torch.from_numpy(target).to(own.device)
                mask = full_size_mask(
                    own[: self.metrics.num_classes], (truth.shape[0], truth.shape[1]), self.geometry
                )
                self.metrics.count(truth.masked_fill(mask == IGNORE, IGNORE), mask)

    def reduce(self, sum_over_ranks: Reduce) -> None:
        """Add the counts of all ranks; call it once, on every rank."""
        self.metrics.reduce(sum_over_ranks)

    def compute(self) -> dict[str, float]:
        """Return ``miou_original`` and ``pixel_accuracy_original``, between 0 and 1."""
        figures = self.metrics.compute()
        return {f"{name}_original": figures[name] for name in ("miou", "pixel_accuracy")}

    def notes(self) -> list[str]:
        """Return the label files that could not be used."""
        return [f"left out of the mIoU at the labels' own size: {reason}" for reason in self.left_out]

    def _target(self, sample: Sample) -> Pixels | str:
        """Return the label file in train ids, uint8 (H, W), or why it cannot be used."""
        assert isinstance(sample.target, Blob)
        try:
            mask = read_mask(sample.target.read(), self.labels)
        except (CorruptImageError, OSError) as error:
            return str(error)
        for length, raw, name in zip(mask.shape, (self.heights, self.widths), ("high", "wide"), strict=True):
            if raw is not None and not raw.min <= length <= raw.max:
                return f"the label file is {length} pixels {name}, the images {raw.min} to {raw.max}"
        return mask
