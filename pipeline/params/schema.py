"""The JSON schema of ``params.yaml``, for editors: ``python -m pipeline.params.schema > docs/params.schema.json``."""

from __future__ import annotations

import json
from typing import Any

from pipeline.models import FAMILIES
from pipeline.models.choice import DEFAULT_FAMILY
from pipeline.params import Params


def params_schema() -> dict[str, Any]:
    """Return the schema, in which ``model`` takes the keys of the family that it names."""
    schema = Params.model_json_schema()
    rules = []
    for name, family in FAMILIES.items():
        keys = family.model_json_schema()
        schema["$defs"] |= keys.pop("$defs", {})
        definition = f"model.{name}"
        schema["$defs"][definition] = keys
        required = [] if name == DEFAULT_FAMILY else ["family"]
        named = {"properties": {"family": {"const": name}}, "required": required}
        rules.append({"if": named, "then": {"$ref": f"#/$defs/{definition}"}})
    schema["properties"]["model"] |= {
        "type": "object",
        "properties": {"family": {"enum": list(FAMILIES), "default": DEFAULT_FAMILY}},
        "allOf": rules,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    print(json.dumps(params_schema(), indent=1))
