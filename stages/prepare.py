"""Turn a dataset's raw files into shards: ``stages.prepare NAME``."""

from __future__ import annotations

import sys

from pipeline.core.process import run_stage
from pipeline.params import load_params
from pipeline.prepare.preparation import prepare
from pipeline.prepare.summary import describe


def main() -> None:
    data = sys.argv[1]
    for manifest in prepare(data, load_params()):
        for line in describe(manifest):
            print(line)


if __name__ == "__main__":
    run_stage(main)
