"""The section ``compare`` of ``params.yaml``: the networks that are trained beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.params.sections import Section


class CompareParams(Section):
    """What `wavemix compare` trains, each with the recipe of ``train`` and ``train.repeats`` seeds."""

    networks: Annotated[tuple[str | dict[str, Any], ...], Field(min_length=1)]
    """Rows of `wavemix paper list` by name, and keys of ``model``, as in ``{family: resnet, depth: 18}``."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time for each network, training and validation, as its measured speed fills it: all phases are drawn out or
    shortened alike. null = the lengths of ``train.phases`` for all."""
