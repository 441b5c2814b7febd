"""Problems with values that people wrote, in words of their keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.core.errors import did_you_mean


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first problem that pydantic found in the values of ``model``, in one line."""
    first = error.errors()[0]
    if isinstance(inner := first.get("ctx", {}).get("error"), ValidationError):  # of a family's keys
        return f"{first['loc'][0]}.{explain(inner, model)}"
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        *section, key = (str(part) for part in first["loc"])
        allowed = _fields_at(section, model)
        return f"{where}: no such key{did_you_mean(key, allowed)}, allowed: {', '.join(allowed)}"
    if first["type"] == "missing":
        return f"{where}: missing; add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: got {first['input']!r}, {message}"


def _fields_at(section: list[str], root: type[BaseModel]) -> list[str]:
    """Return the keys allowed in the part of ``root`` at ``section``."""
    model: Any = root
    for name in section:
        if isinstance(model, type) and issubclass(model, BaseModel):
            annotation = model.model_fields[name].annotation if name in model.model_fields else None
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)
