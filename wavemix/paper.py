"""The rows of the paper's tables, read from paper.yaml."""

import functools
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from wavemix.config import ModelConfig, parse_size


@dataclass(frozen=True)
class PaperRow:
    """One model on one dataset, and the paper's results for it."""

    name: str
    """As in paper.yaml, "cifar10 64/6"."""
    config: ModelConfig
    dataset: str
    image_size: tuple[int, int]
    """Height and width in pixels."""
    parameters: int
    """Exact count; the paper's rounded one is in `printed_parameters`."""
    printed_parameters: str | None
    reported: tuple[dict[str, Any], ...]
    """One per table the row is in: "table", "gpu", and metrics as paper.yaml explains them."""
    notes: tuple[str, ...]
    """Contradictions and gaps of the paper."""


@functools.cache
def paper_rows() -> dict[str, PaperRow]:
    """Return every WaveMix-Lite row of Tables 1 to 9, by name."""
    from ruamel.yaml import YAML

    installed = files("wavemix") / "paper.yaml"  # in a wheel; in the repository it lies beside the package
    source = installed if installed.is_file() else Path(__file__).parent.parent / "paper.yaml"
    rows = YAML(typ="safe").load(source.read_text(encoding="utf-8"))
    return {name: _row(name, values) for name, values in rows.items()}


def _row(name: str, values: dict[str, Any]) -> PaperRow:
    model = dict(values["model"])
    height, width = values["image_size"]
    return PaperRow(
        name=name,
        config=ModelConfig.from_dict({**parse_size(model.pop("size")), **model}),
        dataset=values["dataset"],
        image_size=(height, width),
        parameters=values["parameters"]["exact"],
        printed_parameters=values["parameters"]["printed"],
        reported=tuple(values["reported"]),
        notes=tuple(values.get("notes", ())),
    )
