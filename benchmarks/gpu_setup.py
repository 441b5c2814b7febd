"""The device and the networks that the checks of ``benchmarks.gpu`` work on, and how they take the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from pipeline.core.device import choose_precision
from pipeline.data.shards.manifest import Manifest
from pipeline.params import Params, parse_params
from pipeline.profiling.noise import noise_manifest
from pipeline.profiling.probe import Probe

WARM_UP, STEPS, SECONDS = 3, 20, 0.5
"""Steps that do not count; the device is then waited for after so many steps or seconds, whichever comes first."""


@dataclass(frozen=True)
class Row:
    """What a check found, in words for the table."""

    measured: str
    against: str = ""
    """The limit, the goal, or the share of a ceiling."""
    passed: bool = True


@dataclass(frozen=True)
class Check:
    """One row of the table: ``seconds`` is about what ``run`` takes on a data centre's GPU."""

    name: str
    seconds: float
    run: Callable[[], Row]


@dataclass(frozen=True)
class Workload:
    """A network D/N and the batches that it works on."""

    dim: int
    depth: int
    size: tuple[int, int]
    """Height and width in pixels."""
    batch: int
    task: str = "classification"
    classes: int = 1000
    dropout: float = 0.5
    memory: str = "default"

    @property
    def name(self) -> str:
        """D/N at height x width, and how it saves memory where it does."""
        saving = "" if self.memory == "default" else f", {self.memory}"
        return f"{self.dim}/{self.depth} at {self.size[0]}x{self.size[1]}{saving}"

    @property
    def manifest(self) -> Manifest:
        """The description of data that has no shards."""
        return noise_manifest(self.task, self.classes, self.size)

    def params(self, machine: dict[str, object] | None = None) -> Params:
        """Return the parameters of a training of two epochs."""
        return parse_params(
            {
                "data": "noise",
                "datasets": {"noise": {"reader": "image_folder", "sizes": [list(self.size)]}},
                "model": {"dim": self.dim, "depth": self.depth, "dropout": self.dropout},
                "train": {
                    "phases": [{"optimizer": "adamw", "epochs": 2}],
                    "batch_size": self.batch,
                    "amp": "off",
                    "memory": self.memory,
                },
                "machine": machine or {},
            }
        )

    def probe(self, device: torch.device, amp: str) -> Probe:
        """Build the network, its weights the same each time, with its loss and optimiser."""
        torch.manual_seed(0)
        return Probe(self.params(), self.manifest, device, amp)


@dataclass(frozen=True)
class Sizes:
    """How large everything is: as it matters on a GPU, or so small that a CPU gets through it."""

    checked: Workload
    """For comparisons with float64 on the CPU, without dropout."""
    trained: Workload
    """For whole trainings on shards; as many classes as `benchmarks.synthetic` draws."""
    timed: tuple[Workload, ...]
    small: Workload
    """So small that launching its kernels takes longer than running them."""
    matrix: int
    """Rows and columns of the matrices that are multiplied."""
    copied: int
    """Bytes."""
    samples: int
    """Of the split that is loaded."""


FULL = Sizes(
    checked=Workload(128, 7, (32, 32), 8, dropout=0),
    trained=Workload(32, 3, (32, 32), 64, classes=10),
    timed=(
        Workload(128, 7, (64, 64), 256),
        Workload(256, 7, (64, 64), 256),
        Workload(256, 16, (512, 1024), 16, "segmentation", 20),
    ),
    small=Workload(32, 7, (32, 32), 128, classes=10),
    matrix=8192,
    copied=1 << 30,
    samples=16_384,
)
QUICK = Sizes(
    checked=Workload(8, 2, (16, 16), 4, classes=5, dropout=0),
    trained=Workload(8, 1, (8, 8), 16, classes=10),
    timed=(Workload(8, 1, (8, 8), 4), Workload(8, 1, (32, 32), 2, "segmentation", 5)),
    small=Workload(4, 1, (8, 8), 4),
    matrix=64,
    copied=1 << 16,
    samples=64,
)


@dataclass
class Setup:
    """One run of the checks on one device.

    Args:
        folder: for shards and trainings; removed by whoever made it.
        authors: an interpreter that has the authors' package.
    """

    device: torch.device
    sizes: Sizes
    folder: Path
    authors: str | None = None

    @cached_property
    def amp(self) -> str:
        """The precision that ``auto`` gives a training here: no, bf16 or fp16."""
        return choose_precision("auto", self.device)

    @cached_property
    def copy_rate(self) -> float:
        """Bytes read and written per second by a copy within the device."""
        source = torch.ones(self.sizes.copied, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * self.sizes.copied / self.seconds(lambda: target.copy_(source))

    @cached_property
    def flops(self) -> float:
        """Floating-point operations per second of a square matrix product in bfloat16."""
        shape = self.sizes.matrix, self.sizes.matrix
        left, right = (torch.randn(shape, device=self.device).bfloat16() for _ in range(2))
        return 2.0 * self.sizes.matrix**3 / self.seconds(lambda: left @ right)

    def seconds(self, step: Callable[[], object]) -> float:
        """Return the seconds that one ``step`` takes, of many in a row."""
        for _ in range(WARM_UP):
            step()
        self._wait()
        start, steps = time.perf_counter(), 0
        while steps < STEPS and time.perf_counter() - start < SECONDS:
            step()
            steps += 1
        self._wait()
        return (time.perf_counter() - start) / steps

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
