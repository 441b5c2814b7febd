"""img2dataset's own resizer, for `benchmarks.prepare`: a process in an environment of its own.

Prints its version, then for each line on stdin resizes all images once and prints the CPU seconds it took.
Its resizer decodes with OpenCV, shrinks by area and encodes JPEG at quality 95, its default.
"""

from __future__ import annotations

import io
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main() -> None:
    from img2dataset.resizer import Resizer

    images = [Path(name).read_bytes() for name in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    resizer: Any = Resizer(int(sys.argv[2]), "center_crop", False)
    print(version("img2dataset"), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        for image in images:
            *_, error = resizer(io.BytesIO(image))
            assert error is None, error
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
