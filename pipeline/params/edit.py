"""A change of ``params.yaml`` by a command: comments and all else in the file stay."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core.atomic import write_atomically
from pipeline.params import parse_params


def edit_params(path: Path, edit: Callable[[Any], list[str]]) -> list[str]:
    """Let ``edit`` change the document of ``path`` in place; return what it says that it changed, a line each.

    Nothing is written where it changed nothing, or where the file would not be valid.

    Raises:
        UserError: a value is not allowed.
    """
    yaml = _round_trip_yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    changes = edit(document)
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    parse_params(YAML(typ="safe").load(buffer.getvalue()), str(path))
    if changes:
        write_atomically(path, buffer.getvalue())
    return changes


def _round_trip_yaml() -> YAML:
    """Return a reader and writer of YAML that keeps comments, quotes and the word null."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml
