"""What lies in the shards, shown: how many of what, a few of them, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.core.markdown import escape, table
from pipeline.data.shards.manifest import Manifest, RawSize
from pipeline.data.shards.reader import Decoded, ShardReader
from pipeline.plotting import charts
from pipeline.tasks import task_of

MOST_LEFT_OUT = 20
"""Files named on the page; the manifest names them all."""


def data_figures(folder: Path, manifest: Manifest) -> dict[str, Figure]:
    """Plot samples or pixels per class, and a grid of prepared images with their labels or masks."""
    what = manifest.target.counted
    counts = {name: split.histogram for name, split in manifest.splits.items() if split.samples}
    return {
        "histogram": charts.histogram(counts, manifest.class_names, what),
        "samples": _samples(folder, manifest),
    }


def data_text(manifest: Manifest) -> str:
    """Return the page's tables and findings, as Markdown."""
    height, width = manifest.size
    summary = [
        ("task", manifest.task),
        ("classes", str(manifest.num_classes)),
        ("prepared", f"{height}x{width}, {manifest.channels} channel(s), {manifest.encoding}"),
        ("resized by", f"{manifest.filter}, {manifest.geometry.replace('_', ' ')}"),
        ("mean, of pixels in 0 to 1", ", ".join(f"{value:.4f}" for value in manifest.mean)),
        ("standard deviation", ", ".join(f"{value:.4f}" for value in manifest.std)),
    ]
    splits = [
        (
            name,
            f"{split.samples:,}",
            len(split.shards),
            f"{sum(shard.bytes for shard in split.shards) / 1e6:,.1f}",
            f"{split.raw_bytes / 1e6:,.1f}",
            f"{_range(split.raw_height)} x {_range(split.raw_width)}",
            len(split.left_out),
        )
        for name, split in manifest.splits.items()
    ]
    text = table(["data", manifest.dataset], summary)
    text += "\n" + table(
        ["split", "samples", "shards", "MB", "raw MB", "raw height x width", "left out"], splits
    )
    if manifest.passed_over:
        passed_over = [(reason, item.count, item.example) for reason, item in manifest.passed_over.items()]
        text += "\n" + table(["passed over", "files", "such as"], passed_over)
    for line in (*(f"Warning: {line}" for line in manifest.warnings()), *manifest.notes()):
        text += f"\n- {escape(line)}"
    text += "\n"
    left_out = [(name, file) for name, split in manifest.splits.items() for file in split.left_out]
    if left_out:
        rows = [(name, file.name, file.reason) for name, file in left_out[:MOST_LEFT_OUT]]
        text += "\n" + table(["split", "left out", "why"], rows)
        if len(left_out) > MOST_LEFT_OUT:
            text += f"\n… and {len(left_out) - MOST_LEFT_OUT} more; the manifest names them all.\n"
    return text


def _range(size: RawSize | None) -> str:
    """Return ``100 to 500``, or the one size that all have."""
    if size is None:
        return "–"
    return str(size.min) if size.min == size.max else f"{size.min} to {size.max}"


def _samples(folder: Path, manifest: Manifest) -> Figure:
    """Return samples from all over the train split."""
    task = task_of(manifest)
    return task.draw_samples(list(_spread(folder, manifest, task.shown_samples)), manifest)


def _spread(folder: Path, manifest: Manifest, count: int) -> Iterator[Decoded]:
    """Return at most ``count`` samples of the train split, evenly apart, reading only the shards they lie in."""
    split = manifest.split("train")
    wanted = {round(i * (split.samples - 1) / max(count - 1, 1)) for i in range(min(count, split.samples))}
    first = 0
    for shard in split.shards:
        reader = ShardReader(folder, shard, manifest)
        for number in sorted(wanted):
            if first <= number < first + shard.samples:
                yield reader.sample(number - first)
        first += shard.samples
