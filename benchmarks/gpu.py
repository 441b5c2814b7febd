"""How right and how fast the pipeline is on this machine's GPU, as one table: ``python -m benchmarks.gpu``.

    uv run python -m benchmarks.gpu --minutes 9
    uv run python -m benchmarks.gpu --minutes 30 --authors /path/to/python   # one that has the authors' package
    uv run python -m benchmarks.gpu --device cpu --quick --minutes 1

First correctness, then speed and memory, the most telling first. A check that would not fit the minutes left is passed
over. Each result is written to --out at once; the same command resumes from there, and tries again what failed. Neither
DVC nor MLflow nor Albumentations needs to be installed. Exit status 1: a check failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import gpu_checks, gpu_speed
from benchmarks.gpu_setup import FULL, QUICK, Check, Row, Setup
from pipeline.core.device import choose_device, device_name
from pipeline.core.errors import UserError
from pipeline.core.markdown import table


class Record:
    """The rows found so far, in a JSON file that is written after each.

    Raises:
        UserError: the file is of another machine, another torch or other sizes.
    """

    def __init__(self, path: Path, where: dict[str, str]) -> None:
        self.path, self.where = path, where
        self.rows: dict[str, Row] = {}
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["where"] != where:
                raise UserError(
                    f"--out: {path} was measured on {content['where']}, this is {where}; name another file"
                )
            self.rows = {name: Row(**row) for name, row in content["rows"].items()}

    def done(self, name: str) -> bool:
        """Return whether a check has passed before."""
        return name in self.rows and self.rows[name].passed

    def add(self, name: str, row: Row) -> None:
        """Keep a row, in the place of one of that name."""
        self.rows[name] = row
        rows = {name: asdict(row) for name, row in self.rows.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(json.dumps({"where": self.where, "rows": rows}, indent=2) + "\n", encoding="utf-8")
        part.replace(self.path)  # whole at any moment

    def markdown(self) -> str:
        """Return the table, and a line on where it was measured."""
        rows = [
            (name, row.measured, row.against, "yes" if row.passed else "NO")
            for name, row in self.rows.items()
        ]
        where = ", ".join(f"{key} {value}" for key, value in self.where.items())
        return table(["check", "measured", "against", "passed"], rows) + f"\n{where}\n"


def run(checks: list[Check], record: Record, seconds: float) -> list[str]:
    """Run what is not done yet, in its order, as far as it fits ``seconds``; return the names of what did not."""
    end, left = time.monotonic() + seconds, []
    for check in checks:
        if record.done(check.name):
            continue
        if time.monotonic() + check.seconds > end:
            left.append(check.name)
            continue
        started = time.monotonic()
        record.add(check.name, _row(check))
        print(f"{check.name}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return left


def _row(check: Check) -> Row:
    """Run one check, which may fail in any way without harm to the others, and free its memory."""
    try:
        with redirect_stdout(sys.stderr):  # the table alone goes to the output
            return check.run()
    except Exception as error:  # out of memory, no compiler, a kernel that is missing
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        return Row(f"{type(error).__name__}: {lines[0][:200]}", passed=False)
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path(".work/gpu.json"), help="record of the results")
    parser.add_argument("--authors", metavar="PYTHON", help="an interpreter that has the authors' package")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORDS", help="run the checks whose names have these words"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the command itself")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = parse(arguments)
    # Torch looks once, at the first matrix product; only with this can it be told to be deterministic later.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        device = choose_device(options.device)
        where = {
            "device": device_name(device),
            "torch": torch.__version__,
            "CUDA": str(torch.version.cuda) if device.type == "cuda" else "none",
            "Python": platform.python_version(),
            "sizes": "quick" if options.quick else "full",
        }
        record = Record(options.out, where)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(device, QUICK if options.quick else FULL, Path(folder), options.authors)
        checks = [*gpu_checks.checks(setup), *gpu_speed.checks(setup)]
        wanted = [check for check in checks if any(words in check.name for words in options.only)]
        left = run(wanted, record, 60 * options.minutes)
    print(record.markdown())
    if left:
        print(f"{len(left)} checks did not fit the time; the same command resumes: {'; '.join(left)}")
    return 0 if all(row.passed for row in record.rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
