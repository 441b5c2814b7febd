"""The keys under ``model:``, of whichever family."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.models import FAMILIES, ModelParams, parse_model


class File(BaseModel):
    """A file with a section for the network."""

    model: ModelParams


def problem(model: Any) -> tuple[str, str]:
    """Return where the first problem in a file with ``model`` lies, and the message."""
    with pytest.raises(ValidationError) as caught:
        File.model_validate_json(json.dumps({"model": model}))
    first = caught.value.errors()[0]
    return ".".join(map(str, first["loc"])), first["msg"]


def test_keys_without_a_family_are_those_of_wavemix_lite() -> None:
    params = File.model_validate_json('{"model": {"dim": 64, "depth": 4}}')
    assert params.model == parse_model({"family": "wavemix-lite", "dim": 64, "depth": 4})
    assert params.model_dump()["model"]["dim"] == 64


def test_a_family_reads_its_own_keys() -> None:
    params = File.model_validate_json('{"model": {"family": "resnet", "depth": 18}}')
    assert params.model_dump() == {"model": {"family": "resnet", "depth": 18, "stem": "imagenet"}}
    assert File.model_validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize(
    ("model", "where", "message"),
    [
        ({"family": "resnt"}, "model.family", r"no such family (did you mean 'resnet'?), allowed: "),
        ({"family": ["resnet"]}, "model.family", "no such family"),
        (
            {"family": "resnet", "depth": 18, "dim": 64},
            "model.dim",
            "no such key of resnet, allowed: depth, family, stem",
        ),
        ({"dim": 64, "dept": 4}, "model.dept", "no such key of wavemix-lite (did you mean 'depth'?)"),
        ({"family": "resnet"}, "model.depth", "Field required"),
        ({"family": "resnet", "depth": 19}, "model.depth", "Input should be 18, 34, 50, 101 or 152"),
        ({"dim": 64, "depth": 10**6}, "model.depth", "Input should be less than or equal to 256"),
        (64, "model", "must be keys and values"),
    ],
)
def test_what_is_not_allowed_is_named_where_it_stands(model: Any, where: str, message: str) -> None:
    found, text = problem(model)
    assert found == where
    assert message in text
    assert "\n" not in text


def test_families_are_offered_under_the_name_they_write() -> None:
    assert {name: family.family_name() for name, family in FAMILIES.items()} == {
        name: name for name in FAMILIES
    }


def test_reading_keys_loads_no_library_of_networks() -> None:
    code = (
        "import sys, pipeline.models; pipeline.models.parse_model({'family': 'resnet', 'depth': 18});"
        "print(*sorted({'torch', 'timm', 'torchvision', 'wavemix'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
