"""Images a second of 1, 2, ... processes under torchrun, a thread each: ``python -m benchmarks.processes``.

The training stage on noise, in turns, the same number of images a step for each process (weak scaling). Rates are of
the second epoch, by the clock: each process needs a core of its own that nothing else is using.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.spread import spread
from benchmarks.synthetic import write_shards

MODULES = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--depth", type=int, default=7)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64, help="images a step and process")
    parser.add_argument("--steps", type=int, default=16, help="steps an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[int, list[float]] = {number: [] for number in options.processes}
    for _ in range(options.rounds):
        for number in options.processes:
            rates[number].append(_rate(number, options))
    alone = rates[options.processes[0]]
    print("| processes | images/s, median (lowest to highest) | times the first row, for each process |")
    print("|---|---|---|")
    for number, measured in rates.items():
        ratios = [a / b for a, b in zip(measured, alone, strict=True)]
        share = statistics.median(ratios) * options.processes[0] / number
        print(f"| {number} | {spread(measured, ',.0f')} | {statistics.median(ratios):.2f}, {share:.1%} |")


def _rate(processes: int, options: argparse.Namespace) -> float:
    """Train once; return images per second over all processes."""
    size, batch_size = (options.size, options.size), options.batch_size * processes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dvc.yaml").touch()
        splits = {"train": batch_size * options.steps, "val": options.batch_size}
        write_shards(folder / "data/shards/noise" / f"{size[0]}x{size[1]}", size, splits, "raw")
        (folder / "params.yaml").write_text(
            f"data: noise\n"
            f"datasets: {{noise: {{reader: image_folder, sizes: [[{size[0]}, {size[1]}]]}}}}\n"
            f"model: {{dim: {options.dim}, depth: {options.depth}}}\n"
            f"train: {{batch_size: {batch_size}, phases: [{{optimizer: adamw, epochs: 2}}]}}\n"
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(MODULES),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }
        subprocess.run(
            [*command, f"--nproc_per_node={processes}", "-m", "stages.train"],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with (folder / "reports/curves.csv").open(newline="") as file:
            return float(list(csv.DictReader(file))[1]["train/images_per_second"])


if __name__ == "__main__":
    main()
