"""A trial's values, written into params.yaml."""

from __future__ import annotations

import io
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core.atomic import write_atomically
from pipeline.core.errors import UserError
from pipeline.core.yaml_file import round_trip_yaml
from pipeline.params import parse_params
from pipeline.search.space import put
from pipeline.search.study import Tried


def use_trial(tried: list[Tried], number: int, path: Path) -> list[str]:
    """Write what trial ``number`` drew into ``path``, a params.yaml; comments and all else stay. Return what was set.

    Raises:
        UserError: there is no such trial.
    """
    if not 0 <= number < len(tried):
        raise UserError(f"--use: got {number}, allowed: the trials that there are, 0 to {len(tried) - 1}")
    yaml = round_trip_yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in tried[number].drawn.items():
        put(document, key, value)
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    parse_params(YAML(typ="safe").load(buffer.getvalue()), str(path))
    write_atomically(path, buffer.getvalue())
    return [f"{key}: {value}" for key, value in tried[number].drawn.items()]
