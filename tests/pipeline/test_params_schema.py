"""The schema for editors is what the code says: it takes params.yaml, and refuses what the pipeline refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from pipeline.params.schema import params_schema
from tests import ROOT

VALIDATOR = Draft202012Validator(params_schema())


def values() -> dict[str, Any]:
    """Return params.yaml as editors read it, in YAML 1.2."""
    read: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
    return read


def paths(content: dict[str, Any]) -> list[str]:
    """Return where the errors lie, as ``$.train.size``."""
    return [error.json_path for error in VALIDATOR.iter_errors(content)]


def test_the_file_is_fresh() -> None:
    written = json.loads((ROOT / "docs/params.schema.json").read_text())
    assert written == params_schema(), "run `python -m pipeline.params.schema > docs/params.schema.json`"


def test_params_yaml_names_the_schema_and_fits_it() -> None:
    first = (ROOT / "params.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/params.schema.json"
    assert paths(values()) == []


@pytest.mark.parametrize(
    ("model", "fits"),
    [
        ({"dim": 64, "depth": 4}, True),
        ({"family": "wavemix-lite", "dim": 64, "depth": 4}, True),
        ({"family": "resnet", "depth": 18, "stem": "cifar"}, True),
        ({"family": "resnet", "dim": 64}, False),
        ({"dim": 64, "dept": 4}, False),
        ({"family": "resnett"}, False),
    ],
)
def test_a_model_has_the_keys_of_its_family(model: dict[str, Any], fits: bool) -> None:
    assert (not paths(values() | {"model": model})) is fits


def test_an_unknown_key_and_a_value_of_another_kind_are_marked() -> None:
    content = values()
    content["train"] |= {"seeed": 1, "accumulate": "two"}
    assert sorted(paths(content)) == ["$.train", "$.train.accumulate"]
