"""Image files and masks, opened as `prepare`, `predict` and the served model do."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import read_mask
from pipeline.data.imaging.resize import Resizer
from pipeline.data.raw.listing import UNKNOWN, Labels
from tests.fuzz.base import Files, Format, Part
from tests.fuzz.mend import png_checksums
from tests.pipeline.workshop import encoded, noise

KINDS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "PNG": (("RGB", {}), ("L", {}), ("P", {}), ("LA", {}), ("RGBA", {}), ("1", {}), ("I;16", {})),
    "JPEG": (("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"exif": b"turned"})),
    "GIF": (("P", {}), ("L", {})),
    "BMP": (("RGB", {}), ("L", {}), ("1", {})),
    "TIFF": (
        ("RGB", {}), ("RGB", {"compression": "tiff_lzw"}), ("RGB", {"compression": "jpeg"}),
        ("L", {"compression": "tiff_deflate"}), ("1", {"compression": "group4"}), ("I;16", {}), ("F", {}),
        ("RGB", {"compression": "packbits"}),
    ),
    "WEBP": (("RGB", {}), ("RGBA", {"lossless": True})),
    "PPM": (("RGB", {}), ("L", {}), ("1", {})),
    "AVIF": (("RGB", {}), ("RGBA", {})),
    "JPEG2000": (("RGB", {}), ("L", {})),
}  # fmt: skip
"""Modes and options of the genuine files of each format, by Pillow's name of it."""

SIZE = (8, 8)


def _drawn(mode: str) -> Image.Image:
    grey = noise(13, 17, 1)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) << 8)
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    return Image.fromarray(noise(13, 17)).convert(mode)


def _options(mode: str, options: dict[str, Any]) -> dict[str, Any]:
    if "exif" not in options:
        return options
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    return options | {"exif": exif.tobytes(), "comment": mode}


def _make(kind: str) -> list[Files]:
    wrap = png_checksums if kind == "PNG" else None
    return [
        {"image": Part(encoded(_drawn(mode), kind, **_options(mode, options)), wrap)}
        for mode, options in KINDS[kind]
    ]


def _use(folder: Path) -> None:
    data = (folder / "image").read_bytes()
    refused: list[Exception] = []
    for channels, filter_, geometry in ((3, "box", "squash"), (1, "fast", "center_crop")):
        resizer = Resizer(3 if channels == 3 else 1, filter_, geometry)
        try:
            pixels, _ = resizer.decode(data, (SIZE,))
            resized = resizer.resize(pixels, SIZE)
            assert resized.shape == (*SIZE, channels)
            assert resized.dtype == np.uint8
        except CorruptImageError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _make_masks() -> list[Files]:
    ids = Image.fromarray(noise(13, 17, 1) % 5)
    palette = ids.convert("P")
    files = [encoded(image, kind) for image in (ids, palette) for kind in ("PNG", "TIFF", "BMP")]
    return [{"image": Part(data, png_checksums if data.startswith(b"\x89PNG") else None)} for data in files]


def _make_coloured() -> list[Files]:
    pixels = np.array([(0, 0, 0), (9, 200, 30)], np.uint8)[noise(13, 17, 1) % 2]
    files = [encoded(Image.fromarray(pixels), kind) for kind in ("PNG", "TIFF", "BMP")]
    return [{"image": Part(data, png_checksums if data.startswith(b"\x89PNG") else None)} for data in files]


def _use_mask(folder: Path) -> None:
    ids = read_mask((folder / "image").read_bytes(), IDS)
    assert ids.max(where=ids != 255, initial=0) < 5


def _use_coloured(folder: Path) -> None:
    assert read_mask((folder / "image").read_bytes(), COLOURS).max() < 2


IDS = Labels((*range(5), *[UNKNOWN] * 250, 255), ())
COLOURS = Labels((UNKNOWN,) * 256, (), (((0, 0, 0), 0), ((9, 200, 30), 1)))
FORMATS: dict[str, Format] = {kind.lower(): Format(partial(_make, kind), _use) for kind in KINDS}
FORMATS["mask"] = Format(_make_masks, _use_mask)
FORMATS["coloured mask"] = Format(_make_coloured, _use_coloured)
