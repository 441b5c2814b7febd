"""The rows of the networks that the paper compares WaveMix-Lite with, from rivals.yaml beside this file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pipeline.core.yaml_file import read_yaml
from wavemix import PaperRow, paper_rows


@dataclass(frozen=True)
class RivalRow:
    """One of those networks on one dataset, and the paper's results for it."""

    name: str
    """As in rivals.yaml, "cifar10 ResNet-18"."""
    model: dict[str, Any]
    """Keys of ``model:`` in params.yaml, ``family`` among them."""
    dataset: str
    image_size: tuple[int, int]
    """Height and width in pixels."""
    parameters: int
    """Exact count; the paper's rounded one is in `printed_parameters`."""
    printed_parameters: str | None
    reported: tuple[dict[str, Any], ...]
    """As `PaperRow.reported`; "cited" says where the paper took the figure from."""
    notes: tuple[str, ...]


Row = PaperRow | RivalRow


@functools.cache
def rival_rows() -> dict[str, RivalRow]:
    """Return every row of another network in Tables 1, 2, 3, 4 and 6, by name."""
    rows: dict[str, Any] = read_yaml(files("pipeline.paper") / "rivals.yaml")  # type: ignore[arg-type]
    return {name: _row(name, values) for name, values in rows.items()}


def all_rows() -> dict[str, Row]:
    """Return every row of the paper, WaveMix-Lite's first, by name."""
    return {**paper_rows(), **rival_rows()}


def _row(name: str, values: dict[str, Any]) -> RivalRow:
    height, width = values["image_size"]
    return RivalRow(
        name=name,
        model=values["model"],
        dataset=values["dataset"],
        image_size=(height, width),
        parameters=values["parameters"]["exact"],
        printed_parameters=values["parameters"]["printed"],
        reported=tuple(values["reported"]),
        notes=tuple(values.get("notes", ())),
    )
