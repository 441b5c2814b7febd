"""A trained network at work on images of any size: what is in them, or where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pipeline.checkpoints.trained import Loaded, load_trained
from pipeline.data.imaging.resize import Resizer
from pipeline.data.shards.targets import IGNORE
from pipeline.models.inputs import normalise
from pipeline.plotting.masks import default_palette, encode_png, overlay, pillow_png
from pipeline.tasks.segmentation import full_size_mask

TOP = 5
"""Classes named for an image."""


ANSWER_COLUMNS = {
    "classification": {
        "label": "string",
        "probability": "double",
        "classes": "names",
        "probabilities": "values",
    },
    "segmentation": {"mask": "string", "classes": "names", "shares": "values"},
}
"""What a served network answers per image: text, a number, a list of names, a list of numbers."""


Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Opened:
    """An image as the network takes it, and what it was."""

    pixels: Pixels
    """uint8 (H, W[, 3]) upright; of a JPEG under the filter ``fast`` perhaps scaled down."""
    size: tuple[int, int]
    """Height and width of the file's image."""
    resized: Pixels
    """uint8 (h, w, C) at the network's size."""


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image: classes and probabilities, the likeliest first; or a mask.

    ``mask`` is uint8 (H, W) in train ids at the image's own size, 255 where the network did not look.
    """

    classes: list[tuple[str, float]]
    mask: Pixels | None = None


class Predictor:
    """A trained network with all it needs to take raw images.

    Args:
        loaded: the network and its description; it runs in its form for inference.
        device: the device it runs on.
    """

    def __init__(self, loaded: Loaded, device: torch.device) -> None:
        self.network = loaded.for_inference().to(device)
        self.model, self.trained, self.device = loaded.model, loaded.trained, device
        trained = loaded.trained
        self.resizer = Resizer(1 if trained.channels == 1 else 3, trained.filter, trained.geometry)
        self.palette = trained.palette or default_palette(len(trained.class_names))

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Self:
        """Return a predictor of the network in ``folder``.

        Raises:
            UserError: there is none.
        """
        return cls(load_trained(folder), device)

    def open(self, data: bytes) -> Opened:
        """Decode an image file and resize it as in training.

        Raises:
            CorruptImageError: not an image, or not a whole one.
        """
        pixels, size = self.resizer.decode(data, (self.trained.size,))
        return Opened(pixels, size, self.resizer.resize(pixels, self.trained.size))

    @torch.inference_mode()
    def predict(self, images: list[Opened]) -> list[Prediction]:
        """One prediction per image."""
        stacked = torch.from_numpy(np.stack([image.resized for image in images])).to(self.device)
        logits = self.network(normalise(stacked, self.trained.mean, self.trained.std)).float()
        names = self.trained.class_names
        if self.trained.task == "classification":
            values, places = logits.softmax(1).topk(min(TOP, len(names)), dim=1)
            rows = zip(values.tolist(), places.tolist(), strict=True)
            return [Prediction([(names[i], value) for value, i in zip(*row, strict=True)]) for row in rows]
        return [self._mask(own, image.size) for own, image in zip(logits, images, strict=True)]

    def _mask(self, logits: Tensor, size: tuple[int, int]) -> Prediction:
        """Logits (outputs, h, w) as a mask of ``size``, and the share of each class in it."""
        classes = logits[: len(self.trained.class_names)]
        mask = full_size_mask(classes, size, self.trained.geometry).cpu().numpy()
        counts = np.bincount(mask[mask != IGNORE], minlength=len(self.trained.class_names))
        order = np.argsort(-counts, kind="stable")
        shares = [(self.trained.class_names[i], float(counts[i] / counts.sum())) for i in order if counts[i]]
        return Prediction(shares, mask)

    def mask_png(self, mask: Pixels) -> bytes:
        """``mask`` as a PNG of train ids that shows in the data set's colours."""
        image = Image.frombytes("P", mask.shape[::-1], mask.tobytes())
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        image.putpalette(colours.tobytes())
        return pillow_png(image)

    def overlay_png(self, image: Opened, mask: Pixels) -> bytes:
        """The image under its mask's colours, as a PNG of the image's own size."""
        pixels = image.pixels
        if pixels.shape[:2] != mask.shape:
            pixels = np.asarray(Image.fromarray(pixels).resize(mask.shape[::-1]))
        return encode_png(overlay(pixels.reshape(*mask.shape, -1), mask, self.palette))
