"""Predictions for image files."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError, one_line
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.raw.blobs import IMAGE_SUFFIXES, is_hidden
from pipeline.inference.predictor import Opened, Predictor
from pipeline.tasks.base import Prediction, Task


@dataclass(frozen=True)
class Answer:
    """The result for one file: a prediction, or the reason why there is none."""

    path: Path
    image: Opened | None = None
    prediction: Prediction | None = None
    error: str | None = None


def predict_files(predictor: Predictor, paths: Iterable[Path], batch_size: int) -> Iterator[Answer]:
    """Yield an answer for each file, in order; a file that is no image gets one too, and costs itself only."""

    def read(path: Path) -> Answer:
        try:
            return Answer(path, predictor.open(path.read_bytes()))
        except (CorruptImageError, OSError) as error:
            return Answer(path, error=one_line(error))

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
    """Return the files that names stand for: a file itself, the images below a folder, the matches of a pattern.

    Of a folder, hidden files and folders are left out, as `prepare` does. A file that is named is always tried.

    Raises:
        UserError: a name stands for nothing.
    """
    found: list[Path] = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            images = sorted(file for file in path.rglob("*") if _is_image(file, path))
            if not images:
                allowed = ", ".join(sorted(IMAGE_SUFFIXES))
                raise UserError(f"{name}: no image in this folder; looked for {allowed}")
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


def _is_image(file: Path, folder: Path) -> bool:
    hidden = is_hidden(file.relative_to(folder).as_posix())
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()


def as_record(answer: Answer, task: Task, top: int | None) -> dict[str, Any]:
    """Return an answer as JSON-able values, without pictures, of at most ``top`` classes (`Prediction.first`)."""
    if answer.prediction is None:
        return {"image": str(answer.path), "error": answer.error}
    return {"image": str(answer.path), **task.record(answer.prediction.first(top))}
