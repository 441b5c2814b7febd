"""Read all shards of a dataset again and hold them against their manifests: ``stages.verify NAME``."""

from __future__ import annotations

import sys

from pipeline.core.process import run_stage
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.verify import verify
from pipeline.params import load_params


def main() -> None:
    data = sys.argv[1]
    for size in load_params().named(data).sizes:
        print(verify(shards_folder(data, size)))


if __name__ == "__main__":
    run_stage(main)
