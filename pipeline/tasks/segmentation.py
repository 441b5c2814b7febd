"""One class per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.checkpoints.trained import Trained
from pipeline.data.imaging.resize import crop_box
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import Decoded
from pipeline.data.shards.targets import IGNORE
from pipeline.params import TrainParams
from pipeline.tasks import losses
from pipeline.tasks.base import Loss, Prediction, Size, Task, class_weights, named_values
from pipeline.tasks.segmentation_metrics import SegmentationMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.tasks.examples import Examples


class Segmentation(Task):
    """Focal loss per pixel; the best checkpoint by mean IoU (paper section 4.3)."""

    name = "segmentation"
    metric = "miou"
    class_metric, class_label, class_mean = "iou", "IoU", "miou"
    overlaps = True
    shown_samples = 8
    answer_columns = {"mask": "string", "classes": "names", "shares": "values"}  # noqa: RUF012 - never changed

    def outputs(self, num_classes: int) -> int:
        """Return one more than the classes: the paper's heads have an output for void beside Cityscapes' 19 classes.

        Void pixels are ignored, so it is never a target, and it is cut off before a prediction is made.
        """
        return num_classes + 1

    def loss(self, params: TrainParams, manifest: Manifest) -> Loss:
        weights, gamma, share = class_weights(params, manifest), params.focal_gamma, params.dice

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            total = losses.focal(logits, target, gamma, weights)
            return total + share * losses.dice(logits, target) if share else total

        return loss

    def count(self, target: Tensor) -> Tensor:
        return losses.count_pixels(target)

    def metrics(self, num_classes: int, device: torch.device | str = "cpu") -> SegmentationMetrics:
        return SegmentationMetrics(num_classes, device=device)

    def decide(self, logits: Tensor, sizes: Sequence[Size], trained: Trained) -> list[Prediction]:
        return [_decide_one(own, size, trained) for own, size in zip(logits, sizes, strict=True)]

    def record(self, prediction: Prediction) -> dict[str, Any]:
        return {"shares": named_values(prediction, "share")}

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        names, values = [name for name, _ in prediction.classes], [value for _, value in prediction.classes]
        return {"classes": names, "shares": values}

    def examples(self, manifest: Manifest, samples: int) -> Examples[Any]:
        from pipeline.tasks.examples import Scenes

        return Scenes(-(-samples // 6), worst=4, num_classes=manifest.num_classes)

    def draw_examples(self, examples: Examples[Any], manifest: Manifest, split: str) -> dict[str, Figure]:
        from pipeline.plotting import grids, masks

        names = manifest.class_names
        palette = manifest.palette or masks.default_palette(len(names))
        drawn = {
            "predictions": grids.scenes(examples.spread, names, palette, f"Predictions on {split} images")
        }
        if worst := [example for _, example in examples.mistakes]:
            drawn["mistakes"] = grids.scenes(worst, names, palette, "The worst: images of the lowest mIoU")
        return drawn

    def draw_samples(self, samples: Sequence[Decoded], manifest: Manifest) -> Figure:
        from pipeline.plotting import grids, masks

        palette = manifest.palette or masks.default_palette(manifest.num_classes)
        pairs = [(image, np.asarray(mask)) for image, mask in samples]
        return grids.masks(pairs, manifest.class_names, palette)


def _decide_one(logits: Tensor, size: Size, trained: Trained) -> Prediction:
    """Return the mask of logits (outputs, h, w) at ``size``, and the share of each class in it."""
    mask = full_size_mask(logits[: len(trained.class_names)], size, trained.geometry).cpu().numpy()
    return of_mask(mask, trained.class_names)


def of_mask(mask: NDArray[np.uint8], names: Sequence[str]) -> Prediction:
    """Return ``mask``, uint8 (H, W), with the share of each class in what the network looked at."""
    counts = np.bincount(mask[mask != IGNORE], minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return Prediction([(names[i], float(counts[i] / counts.sum())) for i in order if counts[i]], mask)


def full_size_mask(logits: Tensor, size: tuple[int, int], geometry: str) -> Tensor:
    """Enlarge logits, float (classes, h, w), to ``size`` and decide each pixel: uint8 (H, W), on their device.

    `IGNORE` where the network did not look: outside the centre under ``center_crop``.
    """
    height, width = logits.shape[-2:]
    left, top, right, bottom = crop_box(size, (height, width), geometry)
    enlarged = F.interpolate(logits[None].float(), (bottom - top, right - left), mode="bilinear")
    mask = torch.full(size, IGNORE, dtype=torch.uint8, device=logits.device)
    mask[top:bottom, left:right] = enlarged[0].argmax(0).to(torch.uint8)
    return mask
