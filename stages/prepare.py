"""Turn a dataset's raw files into shards: ``stages.prepare NAME``."""

from __future__ import annotations

import sys

from pipeline.core.process import run_stage
from pipeline.params import load_params
from pipeline.prepare.preparation import prepare


def main() -> None:
    data = sys.argv[1]
    for manifest in prepare(data, load_params()):
        splits = ", ".join(f"{name} {split.samples}" for name, split in manifest.splits.items())
        left_out = sum(len(split.left_out) for split in manifest.splits.values())
        height, width = manifest.size
        print(f"{data} {height}x{width}: {splits} samples; {left_out} corrupt ones left out")


if __name__ == "__main__":
    run_stage(main)
