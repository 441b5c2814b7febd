"""The README.md of a trained network: what it is, what it reaches, how to use it, and how it was made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from ruamel.yaml import YAML

from pipeline.checkpoints.trained import Loaded, Trained
from pipeline.core.markdown import escape, table
from pipeline.data.shards.targets import TARGETS
from pipeline.tasks.metrics import METRIC_LABELS

NAMED_CLASSES = 30
"""Classes that are named; of more only the number is told."""


def model_card(
    loaded: Loaded, repository: str, licence: str | None, measured: Mapping[str, float], params: str | None
) -> str:
    """Return the card, Markdown with metadata.

    Args:
        licence: an identifier as the hub has them, ``mit``; None where nobody named one.
        measured: figures of the test split by name, shares of 1.
        params: the params.yaml that it was trained with, where that is known.
    """
    trained = loaded.trained
    spatial = TARGETS[trained.task].spatial
    data = ModelCardData(
        library_name="wavemix",
        license=licence,
        pipeline_tag="image-segmentation" if spatial else "image-classification",
        tags=[loaded.model.family, "pytorch"],
    )
    title = f"{loaded.model.description}, trained on {trained.data}"
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {escape(title)}",
        table(["", ""], _facts(trained, measured)).strip(),
        "## Use",
        _use(repository),
        _classes(trained),
        "## How it was made",
        _made(params, trained.data),
        "## Licence",
        _licence(trained, licence),
    ]
    return "\n\n".join(parts) + "\n"


def figures_of(trained: Trained, metrics: Path) -> dict[str, float]:
    """Return the test split's figures in the file ``metrics``, which `evaluate` writes; none of another network."""
    if not metrics.exists():
        return {}
    content: dict[str, Any] = json.loads(metrics.read_bytes())
    name = trained.metric.removeprefix("val/")
    value = content.get("val", {}).get(name)
    same = (
        value is not None
        and abs(value - trained.value) < 1e-3  # mixed precision may differ in the last digits
        and (content.get("parameters"), content.get("best_epoch")) == (trained.parameters, trained.epoch)
    )
    return dict(content.get("test", {})) if same else {}


def _facts(trained: Trained, measured: Mapping[str, float]) -> list[tuple[str, str]]:
    height, width = trained.size
    metric = trained.metric.removeprefix("val/")
    kind = "grey" if trained.channels == 1 else "RGB"
    cut = "" if trained.resized is None else f", the middle of {trained.resized[0]}x{trained.resized[1]}"
    facts = [
        ("task", trained.task),
        ("parameters", f"{trained.parameters:,}"),
        ("images", f"{height}x{width}{cut}, {kind}, {trained.geometry}, filter {trained.filter}"),
        ("classes", str(len(trained.class_names))),
        (
            f"{METRIC_LABELS.get(metric, metric)} on val, by which it was chosen",
            f"{100 * trained.value:.2f} %",
        ),
    ]
    facts += [
        (f"{METRIC_LABELS.get(name, name)} on test", f"{100 * value:.2f} %")
        for name, value in measured.items()
        if name in METRIC_LABELS
    ]
    return facts


def _use(repository: str) -> str:
    return f"""```bash
hf download {repository} --local-dir network
uv run wavemix predict photo.jpg --checkpoint network
```

Pixels are scaled to [0, 1], less `mean`, over `std` of `training.json`, after resizing as the table says."""


def _classes(trained: Trained) -> str:
    if len(trained.class_names) > NAMED_CLASSES:
        return f"Its {len(trained.class_names):,} classes stand in `training.json`."
    return f"Classes, in the order of the logits: {', '.join(map(escape, trained.class_names))}."


def _made(params: str | None, data: str) -> str:
    by = "By `uv run dvc repro` of the WaveMix-Lite pipeline"
    if params is None:
        return f"{by}; its params.yaml is not known any more."
    return f"{by} with this in params.yaml:\n\n```yaml\n{_recipe(params, data).strip()}\n```"


def _recipe(params: str, data: str) -> str:
    """Return what made the network of a params.yaml: other datasets, searches and the like are nobody's business."""
    yaml = YAML()
    yaml.width = 4096  # no line is broken that was none
    document = yaml.load(params)
    kept = {key: document[key] for key in ("data", "model", "train") if key in document}
    if data in document.get("datasets", {}):
        kept["datasets"] = {data: document["datasets"][data]}
    text = io.StringIO()
    yaml.dump(kept, text)
    return text.getvalue()


def _licence(trained: Trained, licence: str | None) -> str:
    named = f"The weights are under {licence}." if licence else "No licence was named for the weights."
    return f"{named} They were learned from {escape(trained.data)}: the terms of that data may bind their use too."
