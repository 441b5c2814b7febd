"""YAML files that people write, read as DVC reads them (YAML 1.2: ``1e-3`` is a number)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import UserError


def read_yaml(path: Path) -> Any:
    """Return what the file ``path`` holds, as values that JSON has too.

    Raises:
        UserError: it is not UTF-8 or not YAML, or a value in it is none that JSON has (a date, say).
        FileNotFoundError: there is none.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        foreign = _find_foreign(values)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except (YAMLError, RecursionError) as error:  # an anchor that contains itself never ends
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if foreign is not None:
        raise UserError(f"{path}: {foreign}")
    return values


def _find_foreign(value: Any, where: str = "") -> str | None:
    """Return the first value that YAML has and JSON has not, in words; None where there is none."""
    if isinstance(value, dict):
        inside = [(where, key) for key in value] + [
            (f"{where}.{key}".lstrip("."), value[key]) for key in value
        ]
    elif isinstance(value, list):
        inside = [(f"{where}.{index}", entry) for index, entry in enumerate(value)]
    elif value is None or isinstance(value, (str, int, float)):
        return None
    else:
        return f"{where}: got {value}, which YAML reads as {type(value).__name__}; put it in quotes"
    return next((found for place, entry in inside if (found := _find_foreign(entry, place))), None)
