"""List the raw files of a dataset, getting them first when they are embedded: ``stages.fingerprint NAME``."""

from __future__ import annotations

import sys

from pipeline.core.process import run_stage
from pipeline.data.raw.fingerprint import fingerprint, fingerprint_file, write_fingerprint
from pipeline.data.readers import reader_digest
from pipeline.fingerprint.content import content_digest
from pipeline.fingerprint.raw_files import acquire
from pipeline.params import load_params


def main() -> None:
    data = sys.argv[1]
    params = load_params()
    dataset = params.named(data)
    files = acquire(data, dataset, params.root(data))
    content = content_digest(data, files, params.machine.fingerprint)
    result = fingerprint(data, files, reader_digest(dataset.reader), content)
    write_fingerprint(result, fingerprint_file(data))
    print(f"{data}: {result.files} raw files, {result.bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    run_stage(main)
