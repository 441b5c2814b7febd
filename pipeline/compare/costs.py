"""What the rows of the paper cost on this machine, side by side: the resource columns of Tables 1, 2 and 4.

All networks are built at once and timed in turns, so that a noisy machine is fair to them; only ratios within one run
mean something. Weights do not matter. The record is written after each turn, and the same command resumes from it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.compare.costs_page import RowCost, as_markdown
from pipeline.core.atomic import write_atomically
from pipeline.core.device import choose_compile, choose_device, choose_precision, device_name, set_arithmetic
from pipeline.core.errors import UserError, one_line
from pipeline.paper.rivals import Row
from pipeline.paper.rows import model_params
from pipeline.params import parse_params
from pipeline.profiling.noise import noise_manifest
from pipeline.profiling.probe import Probe
from pipeline.tasks import TASKS
from wavemix import PaperRow, paper_rows
from wavemix.measure import count_macs, count_parameters

RECORD, PAGE = "costs.json", "costs.md"
PAPER_BATCH = 64
"""The paper's "GPU RAM for batch size 64"."""
TURN_SECONDS = 0.5
"""A turn ends after the step in which this much time has gone by."""


@dataclass(frozen=True)
class Setting:
    """How all rows are measured."""

    device: torch.device
    amp: str
    compiled: bool
    batch: int

    @classmethod
    def choose(cls, device: str, amp: str, compiled: str, batch: int | None) -> Setting:
        """Return what the options stand for; ``batch`` is 64 on a GPU and 8 on a CPU where it is None.

        Raises:
            UserError: there is no such device, or it has no such precision.
        """
        chosen = choose_device(device)
        precision = choose_precision(amp, chosen)
        size = batch or (PAPER_BATCH if chosen.type == "cuda" else 8)
        return cls(chosen, precision, choose_compile(compiled, chosen), size)

    def words(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "device": device_name(self.device),
            "torch": torch.__version__,
            "amp": self.amp,
            "compiled": self.compiled,
            "batch": self.batch,
        }


def measure_costs(rows: Sequence[Row], setting: Setting, turns: int, out: Path) -> dict[str, RowCost]:
    """Measure ``rows`` in ``turns`` turns; write `RECORD` and `PAGE` into ``out``, after each turn.

    A row whose network cannot be built or run is named and left out.

    Raises:
        UserError: the record in ``out`` is of another machine or setting, or no row could be measured.
    """
    costs = _read(out / RECORD, setting)
    set_arithmetic(setting.amp, deterministic=False)
    built = dict(_built(rows, setting, costs))
    if not built:
        raise UserError("compare: none of the rows could be measured; the lines above say why")
    started = time.monotonic()
    done = min(len(costs[name].training) for name in built)
    for turn in range(done, turns):
        for name, probe in built.items():
            if len(costs[name].training) <= turn:
                costs[name].training.append(_rate(setting, *_training(probe, setting.batch)))
                costs[name].inference.append(_rate(setting, *_inference(probe, setting.batch)))
        _write(out, rows, costs, setting)
        left = (time.monotonic() - started) / (turn + 1 - done) * (turns - turn - 1)
        print(f"turn {turn + 1} of {turns}, {left:.0f} s left", file=sys.stderr, flush=True)
    return {name: costs[name] for name in built}


def _built(rows: Sequence[Row], setting: Setting, costs: dict[str, RowCost]) -> Iterator[tuple[str, Probe]]:
    """Yield the network of each row that can be measured, ready to be timed; fill in its ``costs``."""
    for row in rows:
        try:
            probe = _probe(row, setting)
            if row.name not in costs:
                costs[row.name] = _counted(probe)
            if setting.compiled:
                probe.compile()
            step, _ = _training(probe, setting.batch)
            step()  # compiles, and shows whether the memory suffices
        except (UserError, RuntimeError, ValueError) as error:
            costs.pop(row.name, None)
            print(f"{row.name} is left out: {one_line(error)}", file=sys.stderr, flush=True)
            continue
        print(f"{row.name}: {costs[row.name].parameters:,} parameters", file=sys.stderr, flush=True)
        yield row.name, probe


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
    torch.manual_seed(0)
    return Probe(parse_params(values, row.name), manifest, setting.device, setting.amp)


def _same_data(row: Row) -> PaperRow:
    """Return a row of WaveMix-Lite on the same data, which says how many classes and channels that has."""
    return next(
        one for one in paper_rows().values() if (one.dataset, one.image_size) == (row.dataset, row.image_size)
    )


def _counted(probe: Probe) -> RowCost:
    if probe.device.type == "cuda":
        memory = float(probe.peak_bytes(PAPER_BATCH))
    else:
        memory = PAPER_BATCH * probe.kept_bytes()
    return RowCost(
        parameters=count_parameters(probe.network),
        gmacs=count_macs(probe.network, probe.images(1)) / 1e9,
        memory_gb=memory / 1e9,
    )


def _training(probe: Probe, batch: int) -> tuple[Callable[[], object], int]:
    images, target = probe.images(batch), probe.target(batch)
    return lambda: probe.step(images, target), batch


def _inference(probe: Probe, batch: int) -> tuple[Callable[[], object], int]:
    images, network = probe.images(batch), probe.model.for_inference(probe.network)

    def forward() -> None:
        with torch.inference_mode(), probe.autocast():
            network(images)

    return forward, batch


def _rate(setting: Setting, work: Callable[[], object], batch: int) -> float:
    """Return images a second of ``work``, which does one batch."""
    work()
    _wait(setting)
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < TURN_SECONDS:
        work()
        images += batch
    _wait(setting)
    return images / (time.perf_counter() - started)


def _wait(setting: Setting) -> None:
    if setting.device.type == "cuda":
        torch.cuda.synchronize(setting.device)


def _read(path: Path, setting: Setting) -> dict[str, RowCost]:
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["where"] != setting.words():
        raise UserError(
            f"{path} was measured on {content['where']}, this is {setting.words()}; name another --out"
        )
    return {name: RowCost(**values) for name, values in content["rows"].items()}


def _write(out: Path, rows: Sequence[Row], costs: dict[str, RowCost], setting: Setting) -> None:
    record = {"where": setting.words(), "rows": {name: asdict(cost) for name, cost in costs.items()}}
    write_atomically(out / RECORD, json.dumps(record, indent=2) + "\n")
    write_atomically(out / PAGE, as_markdown(rows, costs, setting.words()))
