"""What networks cost on this machine, measured side by side.

All are built at once and timed in turns, so that a noisy machine is fair to them; only ratios within one run mean
something. Weights do not matter. The record is written after each turn, and the same call resumes from it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.core.atomic import write_atomically
from pipeline.core.device import choose_compile, choose_device, choose_precision, device_name, set_arithmetic
from pipeline.core.errors import UserError, one_line
from pipeline.profiling.probe import Probe
from wavemix.measure import count_macs, count_parameters

PAPER_BATCH = 64
"""The paper's "GPU RAM for batch size 64"."""
TURN_SECONDS = 0.5
"""A turn ends after the step in which this much time has gone by."""

Costs = dict[str, "Cost"]
"""By the names of the networks."""


@dataclass
class Cost:
    """What one network costs; rates have one entry per turn."""

    parameters: int
    gmacs: float
    memory_gb: float
    """Of training at batch 64: the peak on a GPU; on a CPU what is kept for the backward pass, counted."""
    training: list[float] = field(default_factory=list)
    """Images a second."""
    inference: list[float] = field(default_factory=list)

    def figure(self, name: str) -> float:
        """Return the figure called ``name``; of rates the median."""
        value = getattr(self, name)
        return float(statistics.median(value) if isinstance(value, list) else value)


@dataclass(frozen=True)
class Setting:
    """How all networks are measured."""

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


def measure_costs(
    build: Mapping[str, Callable[[], Probe]],
    setting: Setting,
    turns: int,
    record: Path,
    after_turn: Callable[[Costs], object],
    label: Callable[[str], str] = str,
) -> Costs:
    """Measure the networks that ``build`` makes in ``turns`` turns; return their costs.

    One that cannot be built or run is named and left out.

    Args:
        record: a JSON file, written after each turn before ``after_turn`` is called.
        label: what people call a network, given its name in ``build``.

    Raises:
        UserError: ``record`` is of another machine or setting, or nothing could be measured.
    """
    costs = read_costs(record, setting)
    set_arithmetic(setting.amp, deterministic=False)
    built = dict(_built(build, setting, costs, label))
    if not built:
        raise UserError("compare: none of the networks could be measured; the lines above say why")
    started = time.monotonic()
    done = min(len(costs[name].training) for name in built)
    for turn in range(done, turns):
        for name, probe in built.items():
            if len(costs[name].training) <= turn:
                costs[name].training.append(_rate(setting, *_training(probe, setting.batch)))
                costs[name].inference.append(_rate(setting, *_inference(probe, setting.batch)))
        _write(record, costs, setting)
        after_turn(costs)
        left = (time.monotonic() - started) / (turn + 1 - done) * (turns - turn - 1)
        print(f"turn {turn + 1} of {turns}, {left:.0f} s left", file=sys.stderr, flush=True)
    return {name: costs[name] for name in built}


def _built(
    build: Mapping[str, Callable[[], Probe]], setting: Setting, costs: Costs, label: Callable[[str], str]
) -> Iterator[tuple[str, Probe]]:
    """Yield each network that can be measured, ready to be timed; fill in its ``costs``."""
    for name, make in build.items():
        try:
            torch.manual_seed(0)
            probe = make()
            if name not in costs:
                costs[name] = _counted(probe)
            if setting.compiled:
                probe.compile()
            step, _ = _training(probe, setting.batch)
            step()  # compiles, and shows whether the memory suffices
        except (UserError, RuntimeError, ValueError) as error:
            costs.pop(name, None)
            print(f"{label(name)} is left out: {one_line(error)}", file=sys.stderr, flush=True)
            continue
        print(f"{label(name)}: {costs[name].parameters:,} parameters", file=sys.stderr, flush=True)
        yield name, probe


def _counted(probe: Probe) -> Cost:
    if probe.device.type == "cuda":
        memory = float(probe.peak_bytes(PAPER_BATCH))
    else:
        memory = PAPER_BATCH * probe.kept_bytes()
    return Cost(
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


def read_costs(record: Path, setting: Setting) -> Costs:
    """Return what ``record`` has; nothing where there is none.

    Raises:
        UserError: it is of another machine or setting.
    """
    where, costs = read_record(record)
    if costs and where != setting.words():
        raise UserError(f"{record} was measured on {where}, this is {setting.words()}; name another --out")
    return costs


def read_record(record: Path) -> tuple[dict[str, Any], Costs]:
    """Return where ``record`` was measured, as `Setting.words`, and what; nothing where there is none."""
    if not record.exists():
        return {}, {}
    content = json.loads(record.read_text(encoding="utf-8"))
    return content["where"], {name: Cost(**values) for name, values in content["rows"].items()}


def _write(record: Path, costs: Costs, setting: Setting) -> None:
    content = {"where": setting.words(), "rows": {name: asdict(cost) for name, cost in costs.items()}}
    write_atomically(record, json.dumps(content, indent=2) + "\n")
