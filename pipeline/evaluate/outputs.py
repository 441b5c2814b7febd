"""The files that `evaluate` writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.checkpoints.trained import Trained
from pipeline.evaluate.result import SplitResult
from pipeline.plotting import style


def write(
    out: Path,
    trained: Trained,
    measured: Mapping[str, SplitResult],
    chosen: SplitResult,
    class_names: list[str],
    drawn: Mapping[str, Figure],
) -> None:
    """Return the files that `evaluate` names."""
    for name, figure in drawn.items():
        style.save(figure, out / "evaluate" / f"{name}.png")
    values: dict[str, Any] = {
        split: {key: round(value, 6) for key, value in part.values.items() if math.isfinite(value)}
        for split, part in measured.items()
    }
    values |= {"parameters": trained.parameters, "best_epoch": trained.epoch}
    (out / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
    classes = chosen.metrics.per_class()
    rows = ([name, *map(_cell, row)] for name, row in zip(class_names, classes, strict=True))
    _write_csv(out / "per_class.csv", ["class", *classes[0]._fields], rows)
    confusion = chosen.metrics.confusion
    shares = confusion / chosen.metrics.totals[:, None].clamp(min=1)
    cells = (
        [class_names[i], class_names[j], int(confusion[i, j]), f"{float(shares[i, j]):.6f}"]
        for i, j in confusion.nonzero().tolist()
    )
    _write_csv(out / "confusion.csv", ["actual", "predicted", "count", "share"], cells)


def _write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _cell(value: float) -> str:
    """Return a count in full, a value to six places, NaN as nothing."""
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6f}"
