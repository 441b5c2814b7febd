"""A row of the paper, written into params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pipeline.core.errors import UserError
from pipeline.models import find_family
from pipeline.models.choice import DEFAULT_FAMILY
from pipeline.paper.rivals import Row
from pipeline.paper.rows import family, model_params
from pipeline.params import load_params
from pipeline.params.edit import edit_params

RECIPE = [
    {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "epochs": 130, "patience": 10},
    {"optimizer": "sgd", "lr": 1e-3, "momentum": 0.9, "epochs": 20, "reload_best": True},
]
"""Section 4.3: AdamW, then SGD for the final 20 of at most 150 epochs. When AdamW ends is not said: after ten
epochs without a better validation is our reading."""


def use(row: Row, path: Path = Path("params.yaml"), recipe: bool = False) -> list[str]:
    """Write ``row`` into ``path``: data, model and image size, with ``recipe`` the paper's phases too.

    Everything else in the file, comments included, stays as it is; a file that would not be valid is not written.
    Returns what changed, a line each.

    Raises:
        UserError: the file has no such data set, or is not valid.
    """
    params = load_params(path)
    if row.dataset not in params.datasets:
        raise UserError(
            f"{path}: no data set {row.dataset!r} under datasets:, there are {', '.join(params.datasets)}; "
            "add it there (README, 'Your own data'), then run this again"
        )
    return edit_params(path, lambda document: _apply(document, row, recipe))


def _apply(document: Any, row: Row, recipe: bool) -> list[str]:
    """Write ``row`` into ``document``; return what changed, a line each."""
    changes: list[str] = []
    _set(document, "data", row.dataset, changes)
    _set_model(document, row, changes)
    size = list(row.image_size)
    sizes = document["datasets"][row.dataset]["sizes"]
    if size not in [list(entry) for entry in sizes]:
        sizes.append(size)
        changes.append(f"datasets.{row.dataset}.sizes: added {size}")
    if list(sizes[0]) != size or document["train"].get("size") is not None:
        _set(document["train"], "size", size, changes, "train.")
    if recipe:
        document["train"]["phases"] = [_in_one_line(phase) for phase in RECIPE]
        changes.append("train.phases: the paper's, AdamW then SGD")
    return changes


def _set_model(document: Any, row: Row, changes: list[str]) -> None:
    """Write the row's keys into ``document``; those of another family go."""
    name, model = family(row), document["model"]
    fields = find_family(name).model_fields
    if model.get("family", DEFAULT_FAMILY) != name:
        for key in [key for key in model if key not in fields]:
            del model[key]
            changes.append(f"model.{key}: removed, no key of {name}")
        _set(model, "family", name, changes, "model.")
    for key, value in model_params(row).items():
        # A value that is the default is written only over another one.
        if key in model or key in ("dim", "depth") or value != fields[key].default:
            _set(model, key, value, changes, "model.")


def _in_one_line(values: dict[str, Any]) -> CommentedMap:
    """Return ``values`` written as ``{key: value, ...}``."""
    line = CommentedMap(values)
    line.fa.set_flow_style()
    return line


def _set(section: Any, key: str, value: Any, changes: list[str], prefix: str = "") -> None:
    old = section.get(key)
    if old != value:
        section[key] = value
        changes.append(f"{prefix}{key}: {old} -> {value}")
