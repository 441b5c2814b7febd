"""Measure what the network of params.yaml costs: ``python -m stages.benchmark``."""

from pathlib import Path

from pipeline.benchmark.bench import benchmark
from pipeline.core.process import run_stage
from pipeline.params import load_params


def main() -> None:
    figures = benchmark(load_params(), Path("reports"))
    print(*figures, sep="\n")


if __name__ == "__main__":
    run_stage(main)
