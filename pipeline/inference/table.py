"""Predictions as a table: one row per image, a column for each class."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.checkpoints.trained import Trained
from pipeline.core.atomic import atomic_file
from pipeline.data.shards.targets import TARGETS
from pipeline.inference.files import Answer


@contextmanager
def prediction_table(path: Path | None, trained: Trained) -> Iterator[Callable[[Answer], None]]:
    """Yield what writes rows to the CSV file ``path``, which is there once all is written; None writes nothing.

    The columns are ``image``, ``error``, ``label`` (the likeliest class, the classes found separated by ``|``, or
    the class of the largest area) and, for each class, its probability, or its share of the image.
    """
    if path is None:
        yield lambda answer: None  # noqa: ARG005
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        names, one_label = trained.class_names, TARGETS[trained.task].exclusive
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "error", "label", *names])

        def row(answer: Answer) -> None:
            found = answer.prediction
            if found is None:
                writer.writerow([answer.path, answer.error, "", *("" for _ in names)])
                return
            values = dict(found.classes)
            labels = [name for name, _ in found.classes[:1]] if one_label else found.chosen
            shares = (round(values.get(name, 0.0), 6) for name in names)
            writer.writerow([answer.path, "", "|".join(labels), *shares])

        yield row
