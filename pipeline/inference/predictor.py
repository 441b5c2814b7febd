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
from pipeline.core.errors import UserError
from pipeline.data.imaging.resize import Resizer, centre
from pipeline.data.shards.targets import TARGETS
from pipeline.inference.tiling import tiled_mask
from pipeline.models.flip import flip_average
from pipeline.models.inputs import normalise
from pipeline.plotting.masks import default_palette, encode_png, overlay, pillow_png
from pipeline.tasks import TASKS
from pipeline.tasks.base import Prediction
from pipeline.tasks.segmentation import of_mask

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Opened:
    """An image as the network takes it, and what it was."""

    pixels: Pixels
    """uint8 (H, W[, 3]) upright; of a JPEG under the filter ``fast`` perhaps scaled down."""
    size: tuple[int, int]
    """Height and width of the file's image."""
    resized: Pixels
    """uint8 (h, w, C) at the network's size; in tiles as it is."""


class Predictor:
    """A trained network with all it needs to take raw images.

    Args:
        loaded: the network and its description; it runs in its form for inference.
        device: the device it runs on.
        top: classes that are named of an image at most (`Prediction.first`).
        flip: average the logits of an image with those of its mirror image.
        tile: take an image as it is, in tiles of the network's size, instead of resizing it; for masks.

    Raises:
        UserError: tiles for a network that gives no masks.
    """

    def __init__(
        self,
        loaded: Loaded,
        device: torch.device,
        top: int | None = None,
        *,
        flip: bool = False,
        tile: bool = False,
    ) -> None:
        if tile and not TARGETS[loaded.trained.task].spatial:
            raise UserError(f"--tile: the network is for {loaded.trained.task}; allowed for masks only")
        self.tile = tile
        self.network = loaded.for_inference().to(device)
        self._forward = flip_average(self.network) if flip else self.network
        self.model, self.trained, self.device, self.top = loaded.model, loaded.trained, device, top
        trained = loaded.trained
        self.task = TASKS[trained.task]
        self.resizer = Resizer(1 if trained.channels == 1 else 3, trained.filter, trained.geometry)
        self.palette = trained.palette or default_palette(len(trained.class_names))

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device,
        top: int | None = None,
        *,
        flip: bool = False,
        tile: bool = False,
    ) -> Self:
        """Return a predictor of the network in ``folder``.

        Raises:
            UserError: there is none, or see above.
        """
        return cls(load_trained(folder), device, top, flip=flip, tile=tile)

    def open(self, data: bytes) -> Opened:
        """Decode an image file; resize it, and take the middle of it, as in training.

        Raises:
            CorruptImageError: not an image, or not a whole one.
        """
        if self.tile:
            # The filter fast would decode it smaller.
            whole = Resizer(self.resizer.channels, "box", self.resizer.geometry)
            pixels, size = whole.decode(data, (self.trained.size,))
            return Opened(pixels, size, pixels.reshape(*size, -1))
        prepared = self.trained.prepared_size
        pixels, size = self.resizer.decode(data, (prepared,))
        return Opened(pixels, size, centre(self.resizer.resize(pixels, prepared), self.trained.size))

    @torch.inference_mode()
    def predict(self, images: list[Opened]) -> list[Prediction]:
        """Return one prediction per image."""
        if self.tile:
            return [self._tiled(image, len(images)).first(self.top) for image in images]
        stacked = torch.from_numpy(np.stack([image.resized for image in images]))
        logits = self._logits(stacked).float()
        answers = self.task.decide(logits, [image.size for image in images], self.trained)
        return [answer.first(self.top) for answer in answers]

    def _tiled(self, image: Opened, batch: int) -> Prediction:
        names = self.trained.class_names
        return of_mask(tiled_mask(self._logits, image.resized, self.trained.size, len(names), batch), names)

    def _logits(self, pixels: Tensor) -> Tensor:
        """Return the network's answer to uint8 (B, h, w, C): float (B, outputs[, h', w']) on its device."""
        return self._forward(normalise(pixels.to(self.device), self.trained.mean, self.trained.std))

    def mask_png(self, mask: Pixels) -> bytes:
        """Return ``mask`` as a PNG of train ids that shows in the data set's colours."""
        image = Image.frombytes("P", mask.shape[::-1], mask.tobytes())
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        image.putpalette(colours.tobytes())
        return pillow_png(image)

    def overlay_png(self, image: Opened, mask: Pixels) -> bytes:
        """Return the image under its mask's colours, as a PNG of the image's own size."""
        pixels = image.pixels
        if pixels.shape[:2] != mask.shape:
            pixels = np.asarray(Image.fromarray(pixels).resize(mask.shape[::-1]))
        return encode_png(overlay(pixels.reshape(*mask.shape, -1), mask, self.palette))
