"""A trained network at work on images of any size: what is in them, or where."""

from __future__ import annotations

import base64
import binascii
import glob
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pipeline.checkpoint import Trained, load_trained
from pipeline.errors import UserError
from pipeline.manifest import IGNORE
from pipeline.original import full_size_mask
from pipeline.pictures import default_palette, encode_png, overlay, pillow_png
from pipeline.resize import CorruptImageError, Resizer
from pipeline.tasks import normalise
from wavemix import WaveMixLite

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
"""What counts as an image in a folder; a file that is named is always tried."""
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
        model: in evaluation mode, on any device.
        trained: its description.
        device: where it is to run.
    """

    def __init__(self, model: WaveMixLite, trained: Trained, device: torch.device) -> None:
        self.model = model.to(device)
        self.trained, self.device = trained, device
        self.resizer = Resizer(1 if trained.channels == 1 else 3, trained.filter, trained.geometry)
        self.palette = trained.palette or default_palette(len(trained.class_names))

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Self:
        """The network in ``folder``, in its fast form for inference.

        Raises:
            UserError: there is none.
        """
        model, trained = load_trained(folder)
        return cls(model.fuse(), trained, device)

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
        logits = self.model(normalise(stacked, self.trained.mean, self.trained.std)).float()
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


@dataclass(frozen=True)
class Answer:
    """What became of one file: a prediction, or why there is none."""

    path: Path
    image: Opened | None = None
    prediction: Prediction | None = None
    error: str | None = None


def predict_files(predictor: Predictor, paths: Iterable[Path], batch_size: int) -> Iterator[Answer]:
    """An answer for each file, in order; a file that is no image has an answer too, and the rest goes on."""

    def read(path: Path) -> Answer:
        try:
            return Answer(path, predictor.open(path.read_bytes()))
        except (CorruptImageError, OSError) as error:
            return Answer(path, error=" ".join(str(error).split()))

    rest = iter(paths)
    with ThreadPoolExecutor() as pool:
        while group := list(islice(rest, batch_size)):
            answers = list(pool.map(read, group))
            images = [answer.image for answer in answers if answer.image is not None]
            predictions = iter(predictor.predict(images) if images else [])
            for answer in answers:
                if answer.image is None:
                    yield answer
                else:
                    yield Answer(answer.path, answer.image, next(predictions))


def find_images(named: Iterable[str]) -> list[Path]:
    """The files that names stand for: a file itself, a folder's images (also deeper ones), a glob pattern's.

    Raises:
        UserError: a name stands for nothing.
    """
    found: list[Path] = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            images = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not images:
                raise UserError(f"{name}: no image in this folder; looked for {', '.join(sorted(SUFFIXES))}")
        elif path.exists():
            images = [path]
        else:
            # not Path.glob, which refuses patterns that start at the root
            matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207
            images = sorted(file for file in matches if file.is_file())
            if not images:
                raise UserError(f"{name}: no such file or folder, and no file matches it as a pattern")
        found += images
    return found


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 string, as it is or as a ``data:`` URL.

    Raises:
        CorruptImageError: not base64.
    """
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise CorruptImageError("not base64") from None


def encode_base64(data: bytes) -> str:
    """``data`` as base64 text."""
    return base64.b64encode(data).decode()


def as_record(answer: Answer) -> dict[str, Any]:
    """An answer as JSON-able values, without pictures."""
    if answer.prediction is None:
        return {"image": str(answer.path), "error": answer.error}
    key = "classes" if answer.prediction.mask is None else "shares"
    return {
        "image": str(answer.path),
        key: [
            {"class": name, "probability" if key == "classes" else "share": round(value, 6)}
            for name, value in answer.prediction.classes
        ],
    }
