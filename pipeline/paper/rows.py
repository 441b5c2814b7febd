"""The rows of ``paper.yaml``: to read, to train, and to hold our runs against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.core.errors import UserError, did_you_mean
from pipeline.models import find_family
from pipeline.paper.rivals import RivalRow, Row, all_rows

METRICS = ("top1", "miou")
"""Metrics that the paper reports, by their names here."""


def figure(row: Row) -> tuple[str, float]:
    """Return ``top1`` or ``miou`` and its value, in percent, in the first table that has one."""
    for reported in row.reported:
        for name in METRICS:
            if reported.get(name) is not None:
                return name, float(reported[name])
    raise ValueError(f"paper.yaml: {row.name}: no table reports top1 or miou")


def tradeoff(rows: Iterable[Row], data: str, metric: str) -> list[tuple[float, float, str]]:
    """Return Figure 1's points, (parameters, percent, name), of those of ``rows`` that are judged so on ``data``."""
    return [
        (float(row.parameters), figure(row)[1], row.name.removeprefix(f"{row.dataset} "))
        for row in rows
        if row.dataset == data and figure(row)[0] == metric
    ]


def printed(row: Row, key: str) -> float | None:
    """Return what the first table that has ``key`` says of the row."""
    return next((float(one[key]) for one in row.reported if one.get(key) is not None), None)


def in_table(row: Row, number: int) -> bool:
    """Return whether the row is in this table of the paper."""
    return any(reported["table"] == number for reported in row.reported)


def tables(row: Row) -> str:
    """Return the tables the row is in."""
    return ", ".join(map(str, sorted({reported["table"] for reported in row.reported})))


def family(row: Row) -> str:
    """Return the family of the row's network."""
    return str(row.model["family"]) if isinstance(row, RivalRow) else row.config.family


def model_params(row: Row) -> dict[str, Any]:
    """Return the row as the ``model:`` part of params.yaml, without dropout, of which the paper says nothing."""
    if isinstance(row, RivalRow):
        return row.model
    config = row.config.to_dict()
    keys = find_family(config["family"]).model_fields
    return {key: config[key] for key in keys if key in config and key != "dropout"}


def find_row(name: str) -> Row:
    """Return the row called ``name``.

    Raises:
        UserError: there is none.
    """
    rows = all_rows()
    if name not in rows:
        raise UserError(
            f"no row {name!r} in paper.yaml{did_you_mean(name, rows)}; `wavemix paper list` lists them all"
        )
    return rows[name]


def describe_row(row: Row) -> str:
    """Return the row in words and figures, several lines."""
    height, width = row.image_size
    model = ", ".join(f"{key} {value}" for key, value in model_params(row).items() if value is not None)
    printed = f", printed as {row.printed_parameters}" if row.printed_parameters else ""
    lines = [
        row.name,
        f"  data        {row.dataset}, {height}x{width}",
        f"  model       {model}",
        f"  parameters  {row.parameters:,}{printed}",
    ]
    for reported in row.reported:
        figures = (
            f"{key} {value}" for key, value in reported.items() if key != "table" and value is not None
        )
        lines.append(f"  table {reported['table']}     {', '.join(figures)}")
    return "\n".join([*lines, *(f"  note        {note}" for note in row.notes)])
