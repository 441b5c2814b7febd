"""Every key of ``params.yaml`` as a page of documentation: ``python -m pipeline.params.reference > docs/params.md``."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from pipeline.models import FAMILIES
from pipeline.params import (
    CompareParams,
    DatasetParams,
    MachineParams,
    MixParams,
    Params,
    Phase,
    SearchParams,
    TrainParams,
)
from pipeline.params.search import Range
from pipeline.params.sections import EvaluateParams

SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("params.yaml", Params, "The sections."),
    ("train", TrainParams, "Tracked by DVC: a change trains again."),
    ("train.phases", Phase, "Each phase has a length, an optimiser and a schedule."),
    ("train.mix", MixParams, ""),
    ("evaluate", EvaluateParams, "Tracked by DVC: a change evaluates again."),
    ("search", SearchParams, "Read by `wavemix search` alone; no stage tracks it."),
    ("search.space.KEY", Range, "A list of values in its place is a choice among them."),
    ("compare", CompareParams, "Read by `wavemix compare` alone; no stage tracks it."),
    ("machine", MachineParams, "Tracked nowhere: changes where and how fast things run, never the result."),
    ("datasets.NAME", DatasetParams, "Tracked by DVC: a change prepares again."),
)


def reference() -> str:
    """Return the page, Markdown: a table of keys for each section and each family of networks."""
    parts = [
        "# Every key of params.yaml",
        "Written by `python -m pipeline.params.reference > docs/params.md`; a test compares.\n"
        "A key without a default must be given. An unknown key is named with what was probably meant.\n"
        "Editors that know YAML schemas complete and check the keys: params.yaml names `params.schema.json` for them.",
    ]
    for name, section, note in SECTIONS:
        parts += [f"## {name}", *([note] if note else []), _keys(section)]
    parts.append("## model")
    parts.append("`family` picks the network, `wavemix-lite` when left out; each family has keys of its own.")
    for name, family in FAMILIES.items():
        parts += [f"### family: {name}", _keys(family, without=("family",))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _keys(section: type[BaseModel], without: tuple[str, ...] = ()) -> str:
    """Return a table of the section's keys: name, allowed values, default, sentence."""
    schema = section.model_json_schema()
    lines = ["| key | allowed | default | what it does |", "|---|---|---|---|"]
    for key, values in schema["properties"].items():
        if key not in without:
            field, default = section.model_fields[key], values.get("default")
            shown = "" if field.is_required() or isinstance(default, dict) else f"`{json.dumps(default)}`"
            sentence = " ".join(
                (field.description or "").replace("``", "`").replace(" ** ", " \\*\\* ").split()
            )
            cells = (f"`{key}`", _allowed(values, schema), shown, sentence)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _allowed(values: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return the values that a JSON schema allows, in words."""
    if "$ref" in values:
        return _allowed(schema["$defs"][values["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in values:
        return " or ".join(_allowed(one, schema) for one in values["anyOf"])
    if "enum" in values or "const" in values:
        return ", ".join(f"`{value}`" for value in values.get("enum", [values.get("const")]))
    kind = values.get("type", "see below")
    if kind == "array":
        if "prefixItems" in values:
            return " and ".join(_allowed(one, schema) for one in values["prefixItems"])
        return f"list of {_allowed(values.get('items', {}), schema)}"
    words = {"object": "keys", "string": "text", "boolean": "`true`, `false`"}
    return " ".join([words.get(kind, kind), *_limits(values)])


def _limits(values: dict[str, Any]) -> list[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return [f"{sign} {values[name]:g}" for name, sign in signs.items() if name in values]


if __name__ == "__main__":
    print(reference(), end="")
