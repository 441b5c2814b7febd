"""How a command is added to a parser."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(group: Any, name: str, run: Any, summary: str, examples: str) -> argparse.ArgumentParser:
    """Add the command ``name``, which calls ``run``; return its parser."""
    parser: argparse.ArgumentParser = group.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser
