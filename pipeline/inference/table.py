"""Predictions as a table: one row per image, a column for each class."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError
from pipeline.inference.files import Answer
from pipeline.tasks.base import Task


class Row(Protocol):
    """Writes one answer as a row."""

    def __call__(self, answer: Answer) -> None: ...


@contextmanager
def prediction_table(path: Path | None, task: Task, class_names: Sequence[str]) -> Iterator[Row]:
    """Yield what writes rows to the CSV file ``path``, which is there once all is written; None writes nothing.

    The columns are ``image``, ``error``, ``label`` (the likeliest class, the classes found separated by ``|``, or
    the class of the largest area) and, for each class, its probability, or its share of the image.

    Raises:
        UserError: ``path`` is a folder.
    """
    if path is None:
        yield lambda answer: None  # noqa: ARG005
        return
    if path.is_dir():
        raise UserError(f"--csv {path}: it is a folder; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "error", "label", *class_names])

        def row(answer: Answer) -> None:
            found, none = answer.prediction, [""] * len(class_names)
            if found is None:
                writer.writerow([answer.path, answer.error, "", *none])
                return
            values = dict(found.classes)
            labels = task.record(found).get("labels", [name for name, _ in found.classes[:1]])
            shares = (round(values.get(name, 0.0), 6) for name in class_names)
            writer.writerow([answer.path, "", "|".join(labels), *shares])

        yield row
