"""The networks that are compared, each as the params of a training of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash
from pipeline.data.shards.manifest import Manifest
from pipeline.models import check_network
from pipeline.paper.rivals import Row, all_rows
from pipeline.paper.rows import find_row, in_table, model_params
from pipeline.params import Params, parse_params
from pipeline.tasks.network import has_batch_norm, network_spec


@dataclass(frozen=True)
class Entrant:
    """One network of a comparison."""

    name: str
    """Tells it from the others."""
    row: Row | None
    """The paper's row of this network on this data, where it has one."""
    params: Params
    """Those of params.yaml with this network in them."""

    @property
    def key(self) -> str:
        """What names the network in files."""
        return configuration_hash(self.params.model)


def read_entrants(
    wanted: Sequence[str | Mapping[str, Any]], values: Mapping[str, Any], manifest: Manifest
) -> list[Entrant]:
    """Return the networks of ``wanted``: names of the paper's rows, and keys of ``model``.

    Args:
        values: of params.yaml.

    Raises:
        UserError: there is no such row, keys are not allowed, a network does not fit the data, or one is named twice.
    """
    found: list[tuple[str, Params]] = []
    for number, one in enumerate(wanted):
        model = model_params(find_row(one)) if isinstance(one, str) else dict(one)
        place = one if isinstance(one, str) else f"compare.networks[{number}]"
        params = parse_params({**values, "model": model}, place)
        try:
            spec = network_spec(params, manifest)
            check_network(params.model, spec)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        if params.train.precise_bn and not has_batch_norm(params.model, spec):
            print(f"{place}: train.precise_bn does nothing to it: {params.model.label} has no batch norm")
            train = params.train.model_copy(update={"precise_bn": 0})
            params = params.model_copy(update={"train": train})
        same = next((one for one, other in found if other.model == params.model), None)
        if same is not None:
            raise UserError(f"{place}: the same network as {same}; leave one out")
        found.append((place, params))
    names = _told_apart([params.model.description for _, params in found])
    return [
        Entrant(name, _row_of(params, manifest), params)
        for name, (_, params) in zip(names, found, strict=True)
    ]


def _row_of(params: Params, manifest: Manifest) -> Row | None:
    """Return the paper's row of the network of ``params`` on the same data."""
    keys = params.model.resolved(network_spec(params, manifest)).model_dump(mode="json")
    for row in all_rows().values():
        if (row.dataset, row.image_size) == (params.data, tuple(params.size)):
            wanted = model_params(row)
            if all(keys.get(key) == value for key, value in wanted.items()):
                return row
    return None


def _told_apart(names: Sequence[str]) -> list[str]:
    """Return ``names``, numbered where they are equal."""
    seen: Counter[str] = Counter()
    told = []
    for name in names:
        seen[name] += 1
        told.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told


def rows_of_table(number: int) -> list[str]:
    """Return the names of the rows of a table of the paper.

    Raises:
        UserError: the paper has no rows of such a table.
    """
    tables = {reported["table"] for row in all_rows().values() for reported in row.reported}
    if number not in tables:
        raise UserError(f"--table {number}: no rows; allowed: {', '.join(map(str, sorted(tables)))}")
    return [name for name, row in all_rows().items() if in_table(row, number)]
