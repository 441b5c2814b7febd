"""The command: a long run over all formats, or the replay of one mutant.

python -m tests.fuzz --mutants 20000
python -m tests.fuzz --format png --seed 123
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from tests.fuzz.formats import FORMATS
from tests.fuzz.runner import run


def main() -> None:
    """Run the mutants that the arguments name; exit status 1 if one of them did harm."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="NAME",
                        help=f"formats to run, all by default: {', '.join(FORMATS)}")  # fmt: skip
    parser.add_argument("--mutants", type=int, default=1000, help="mutants over all formats (default 1000)")
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first mutant of each format (default 0)"
    )
    parser.add_argument("--seed", type=int, help="replay this one mutant")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    share = -(-arguments.mutants // len(arguments.format))
    first, count = (arguments.first, share) if arguments.seed is None else (arguments.seed, 1)
    faults = 0
    for name in arguments.format:
        start = time.monotonic()
        outcome = run(FORMATS[name], name, range(first, first + count))
        for seed, what in outcome.faults:
            print(f"{what}\n  replay: python -m tests.fuzz --format {name} --seed {seed}")
        counts = ", ".join(f"{number} {kind}" for kind, number in sorted(outcome.counts.items()))
        print(
            f"{name}: {counts}; seeds {first} to {first + count - 1}; {time.monotonic() - start:.1f} s",
            flush=True,
        )
        faults += len(outcome.faults)
    print(
        f"{share * len(arguments.format)} mutants, {faults} faults"
        if arguments.seed is None
        else f"{faults} faults"
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
