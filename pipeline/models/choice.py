"""The keys under ``model:``, read by the family that they name."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline.core.errors import did_you_mean
from pipeline.models.base import FAMILIES, Family

DEFAULT_FAMILY = "wavemix-lite"


def parse_model(values: Any) -> Family:
    """Validate the keys of a network; ``family`` says which family's they are, `DEFAULT_FAMILY` without it.

    Raises:
        ValueError: ``values`` is no mapping.
        ValidationError: an unknown family, a key that the family lacks, or a value that is not allowed.
    """
    if isinstance(values, Family):
        return values
    if not isinstance(values, dict):
        raise ValueError("must be keys and values, such as {dim: 64, depth: 4}")
    family = find_family(values.get("family", DEFAULT_FAMILY))
    try:
        return family.model_validate_json(json.dumps(values))
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
                raise _unknown_key(family, str(problem["loc"][0]), problem["input"]) from None
        raise


def find_family(name: Any) -> type[Family]:
    """Return the family called ``name``.

    Raises:
        ValidationError: there is none.
    """
    if name not in list(FAMILIES):
        message = f"no such family{did_you_mean(str(name), FAMILIES)}, allowed: {', '.join(FAMILIES)}"
        raise _refused("family", name, message)
    return FAMILIES[name]


def _unknown_key(family: type[Family], key: str, value: Any) -> ValidationError:
    allowed = sorted(family.model_fields)
    message = (
        f"no such key of {family.family_name()}{did_you_mean(key, allowed)}, allowed: {', '.join(allowed)}"
    )
    return _refused(key, value, message)


def _refused(key: str, value: Any, message: str) -> ValidationError:
    """Return an error at ``key``, so that whoever validates a whole file can say where it lies."""
    kind = PydanticCustomError("model_params", "{message}", {"message": message})
    return ValidationError.from_exception_data(
        "model", [InitErrorDetails(type=kind, loc=(key,), input=value)]
    )


ModelParams = Annotated[Family, SerializeAsAny(), PlainValidator(parse_model)]
"""A field of this type holds the keys of any family's network."""
