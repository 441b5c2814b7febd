"""What the rows of the paper cost on this machine, side by side: the resource columns of Tables 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.compare.costs import Costs, Setting, measure_costs
from pipeline.compare.costs_page import as_markdown
from pipeline.core.atomic import write_atomically
from pipeline.paper.rivals import Row
from pipeline.paper.rows import model_params
from pipeline.params import parse_params
from pipeline.profiling.noise import noise_manifest
from pipeline.profiling.probe import Probe
from pipeline.tasks import TASKS
from wavemix import PaperRow, paper_rows

RECORD, PAGE = "costs.json", "costs.md"


def measure_rows(rows: Sequence[Row], setting: Setting, turns: int, out: Path) -> Costs:
    """Measure ``rows`` in ``turns`` turns; write `RECORD` and `PAGE` into ``out``, after each turn.

    Raises:
        UserError: the record in ``out`` is of another machine or setting, or no row could be measured.
    """

    def write_page(costs: Costs) -> None:
        write_atomically(out / PAGE, as_markdown(rows, costs, setting.words()))

    build = {row.name: partial(_probe, row, setting) for row in rows}
    return measure_costs(build, setting, turns, out / RECORD, write_page)


def _probe(row: Row, setting: Setting) -> Probe:
    like = row if isinstance(row, PaperRow) else _same_data(row)
    beside_classes = TASKS[like.config.task].outputs(0)  # such as void's output
    classes = like.config.num_classes - beside_classes
    manifest = noise_manifest(like.config.task, classes, row.image_size, like.config.in_channels)
    values = {
        "data": "noise",
        "datasets": {"noise": {"reader": "image_folder", "sizes": [list(row.image_size)]}},
        "model": model_params(row),
        "train": {"batch_size": setting.batch, "phases": [{"optimizer": "adamw", "epochs": 1}]},
    }
    return Probe(parse_params(values, row.name), manifest, setting.device, setting.amp)


def _same_data(row: Row) -> PaperRow:
    """Return a row of WaveMix-Lite on the same data, which says how many classes and channels that has."""
    return next(
        one for one in paper_rows().values() if (one.dataset, one.image_size) == (row.dataset, row.image_size)
    )
