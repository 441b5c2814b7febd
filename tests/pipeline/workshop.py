"""A repository of its own for each test: raw files in ``raw``, prepared as the stages do it."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.raw.fingerprint import fingerprint, fingerprint_file, write_fingerprint
from pipeline.data.raw.listing import Listing, Source
from pipeline.data.readers import read
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import Manifest
from pipeline.fingerprint.raw_files import acquire
from pipeline.params import Params, parse_params
from pipeline.prepare.preparation import prepare


class Workshop:
    """Raw files of one dataset called ``own`` and what becomes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = folder / "raw"
        self.raw.mkdir()

    def params(
        self, workers: int = 1, engine: str = "local", output: str | None = None, **dataset: Any
    ) -> Params:
        """params.yaml with the one dataset; ``dataset`` overrides its entry."""
        entry = {"reader": "image_folder", "sizes": [[8, 8]], **dataset}
        roots = {"own": str(self.raw)}
        machine = {"workers": workers, "roots": roots, "engine": engine, "output": output}
        return parse_params(
            {
                "data": "own",
                "datasets": {"own": entry},
                "model": {"dim": 8, "depth": 1},
                "train": {"phases": [{"optimizer": "adamw", "epochs": 1}]},
                "machine": machine,
            }
        )

    def prepare(self, params: Params | None = None, **dataset: Any) -> list[Manifest]:
        """Fingerprint and prepare: the manifest of each size."""
        params = params or self.params(**dataset)
        files = acquire("own", params.named("own"), params.root("own"))
        write_fingerprint(fingerprint("own", files), fingerprint_file("own"))
        return prepare("own", params)

    def fresh(self, params: Params | None = None, **dataset: Any) -> dict[str, bytes]:
        """Prepare with nothing there to go on from: all files by name."""
        for folder in ("data/shards", ".work"):
            shutil.rmtree(folder, ignore_errors=True)
        self.prepare(params, **dataset)
        return self.snapshot()

    def listing(self, reader: str, **options: Any) -> Listing:
        """What the reader makes of the raw files."""
        files = acquire("own", self.params(reader=reader).named("own"), str(self.raw))
        return read(reader, Source(str(self.raw), files, self.folder / "scratch", options))

    def shards(self, size: tuple[int, int] = (8, 8)) -> Path:
        return shards_folder("own", size)

    def write(self, name: str, content: bytes) -> Path:
        """A raw file."""
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def classes(self, names: str = "cat dog", images: int = 3, splits: str = "train val") -> None:
        """A folder per class of small distinct PNGs."""
        for split in splits.split():
            for label, name in enumerate(names.split()):
                for i in range(images):
                    self.write(f"{split}/{name}/{i}.png", png(noise(10, 12, seed=100 * label + i)))

    def snapshot(self) -> dict[str, bytes]:
        """All prepared files by name."""
        folder = Path("data/shards/own")
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (height, width, channels), or (height, width) for one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
