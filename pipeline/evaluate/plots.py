"""The plots of one measured split."""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from pipeline.data.shards.manifest import Manifest
from pipeline.evaluate.examples import Scenes
from pipeline.evaluate.result import SplitResult
from pipeline.plotting import charts, grids, masks
from pipeline.tasks.classification_metrics import Classification


def draw(measured: SplitResult, manifest: Manifest) -> dict[str, Figure]:
    """The pictures of one measured split, by file name."""
    names, metrics, split = manifest.class_names, measured.metrics, measured.split
    classes = metrics.per_class()
    segmentation = manifest.task == "segmentation"
    values = [row.iou if segmentation else row.recall for row in classes]
    computed = metrics.compute()
    drawn = {
        "confusion": charts.confusion_matrix(metrics.confusion.numpy(), names),
        "per_class": charts.class_bars(
            values,
            names,
            [row.actual for row in classes],
            f"{'IoU' if segmentation else 'Recall'} per class ({split})",
            computed["miou" if segmentation else "mean_class_recall"],
        ),
    }
    examples, title = measured.examples, f"Predictions on {split} images"
    if isinstance(examples, Scenes):
        palette = manifest.palette or masks.default_palette(len(names))
        show = partial(grids.scenes, class_names=names, palette=palette)
        drawn["predictions"] = show(examples.spread, title=title)
        if worst := [example for _, example in examples.mistakes]:
            drawn["mistakes"] = show(worst, title="The worst: images of the lowest mIoU")
    else:
        drawn["predictions"] = grids.guesses(examples.spread, names, title)
        if wrong := [example for _, example in examples.mistakes]:
            title = "The worst mistakes: wrong, and most confident"
            drawn["mistakes"] = grids.guesses(wrong, names, title)
    if isinstance(metrics, Classification):
        bins = [row for row in metrics.calibration() if row.samples]
        drawn["calibration"] = charts.reliability(
            [row.confidence / row.samples for row in bins],
            [row.hits / row.samples for row in bins],
            [row.samples for row in bins],
        )
    return drawn
