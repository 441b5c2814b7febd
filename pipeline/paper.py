"""The rows of ``paper.yaml``: to read, to train, and to hold our runs against."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pipeline.errors import UserError, did_you_mean
from pipeline.params import ModelParams, load_params, parse_params
from pipeline.runs import Run
from wavemix import PaperRow, paper_rows

FIGURES = {"top1": "top-1", "miou": "mIoU"}


def figure(row: PaperRow) -> tuple[str, float]:
    """``top1`` or ``miou`` and its value, in percent, in the first table that has one."""
    for reported in row.reported:
        for name in FIGURES:
            if reported.get(name) is not None:
                return name, float(reported[name])
    raise ValueError(f"paper.yaml: {row.name}: no table reports top1 or miou")


def tables(row: PaperRow) -> str:
    """The tables the row is in."""
    return ", ".join(map(str, sorted({reported["table"] for reported in row.reported})))


def model_params(row: PaperRow) -> dict[str, Any]:
    """The row as the ``model:`` part of params.yaml, without dropout, of which the paper says nothing."""
    config = row.config.to_dict()
    return {key: config[key] for key in ModelParams.model_fields if key in config and key != "dropout"}


def find_row(name: str) -> PaperRow:
    """The row called ``name``.

    Raises:
        UserError: there is none.
    """
    rows = paper_rows()
    if name not in rows:
        raise UserError(
            f"no row {name!r} in paper.yaml{did_you_mean(name, rows)}; `wavemix paper list` lists them all"
        )
    return rows[name]


def describe_row(row: PaperRow) -> str:
    """The row in words and figures, several lines."""
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


RECIPE = [
    {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "epochs": 130, "patience": 10},
    {"optimizer": "sgd", "lr": 1e-3, "momentum": 0.9, "epochs": 20, "reload_best": True},
]
"""Section 4.3: AdamW, then SGD for the final 20 of at most 150 epochs. When AdamW ends is not said: after ten
epochs without a better validation is our reading."""


def use(row: PaperRow, path: Path = Path("params.yaml"), recipe: bool = False) -> list[str]:
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
    yaml = _round_trip_yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    changes: list[str] = []
    _set(document, "data", row.dataset, changes)
    defaults = ModelParams(dim=4, depth=1).model_dump()
    for key, value in model_params(row).items():
        # A value that is the default is written only over another one.
        if key in document["model"] or key in ("dim", "depth") or value != defaults[key]:
            _set(document["model"], key, value, changes, "model.")
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
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    parse_params(YAML(typ="safe").load(buffer.getvalue()), str(path))
    if changes:
        path.write_text(buffer.getvalue(), encoding="utf-8")
    return changes


def _round_trip_yaml() -> YAML:
    """A reader and writer of YAML that keeps comments, quotes and the word null."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _in_one_line(values: dict[str, Any]) -> CommentedMap:
    """``values`` written as ``{key: value, ...}``."""
    line = CommentedMap(values)
    line.fa.set_flow_style()
    return line


def _set(section: Any, key: str, value: Any, changes: list[str], prefix: str = "") -> None:
    old = section.get(key)
    if old != value:
        section[key] = value
        changes.append(f"{prefix}{key}: {old} -> {value}")


@dataclass(frozen=True)
class Comparison:
    """A row of the paper and the best run of ours that has the same network and data."""

    row: PaperRow
    run: Run
    ours: float
    """In percent."""
    differs: list[str]

    @property
    def difference(self) -> float:
        """Ours less the paper's, in percentage points."""
        return self.ours - figure(self.row)[1]


def compare(rows: Iterable[PaperRow], runs: Iterable[Run]) -> list[Comparison]:
    """Every row that a finished run has the network and data of, with the best such run."""
    best: dict[str, Comparison] = {}
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        by_data.setdefault(run.data, []).append(run)
    for row in rows:
        metric, _ = figure(row)
        wanted = {f"model.{key}": str(value) for key, value in model_params(row).items()}
        for run in by_data.get(row.dataset, []):
            value = run.held_out(metric)
            if value is None or any(run.params.get(key) != text for key, text in wanted.items()):
                continue
            ours = Comparison(row, run, 100 * value, setting_differences(row, run))
            if row.name not in best or best[row.name].ours < ours.ours:
                best[row.name] = ours
    return list(best.values())


def image_size(run: Run) -> tuple[int, int] | None:
    """Height and width of the images that ``run`` was trained on, where it says so."""
    if "dataset.sizes" not in run.params:
        return None
    chosen = run.params.get("train.size", "None")
    height, width = json.loads(run.params["dataset.sizes"])[0] if chosen == "None" else json.loads(chosen)
    return height, width


def setting_differences(row: PaperRow, run: Run) -> list[str]:
    """What a run does otherwise than the paper, as far as the paper says (section 4.3)."""
    found = []
    size = image_size(run)
    if size is not None and size != row.image_size:
        found.append(f"{size[0]}x{size[1]} images, not {row.image_size[0]}x{row.image_size[1]}")
    optimizers = [run.params.get(f"train.phases.{i}.optimizer") for i in range(2)]
    if optimizers != ["adamw", "sgd"]:
        found.append(f"optimiser {' then '.join(name for name in optimizers if name)}, not adamw then sgd")
    schedule = run.params.get("train.phases.0.schedule", "constant")
    if schedule != "constant":
        found.append(f"{schedule} learning rate up to {run.params.get('train.phases.0.lr', '?')}")
    if epochs := run.metrics.get("epoch"):
        found.append(f"{epochs:.0f} epochs, at most 150 there")
    if run.params.get("train.pretrained", "None") != "None":
        found.append("started from trained weights")
    if run.params.get("train.amp") == "off":
        found.append("no AMP")
    if "test/loss" not in run.metrics:
        found.append("val also picked the checkpoint")
    return found
