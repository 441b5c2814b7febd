"""A trial's values, written into params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.params.edit import edit_params
from pipeline.search.space import put
from pipeline.search.study import Tried


def use_trial(tried: list[Tried], number: int, path: Path) -> list[str]:
    """Write what trial ``number`` drew into ``path``, a params.yaml; comments and all else stay. Return what was set.

    Raises:
        UserError: there is no such trial.
    """
    if not 0 <= number < len(tried):
        raise UserError(f"--use: got {number}, allowed: the trials that there are, 0 to {len(tried) - 1}")
    drawn = tried[number].drawn

    def edit(document: Any) -> list[str]:
        for key, value in drawn.items():
            put(document, key, value)
        return [f"{key}: {value}" for key, value in drawn.items()]

    return edit_params(path, edit)
