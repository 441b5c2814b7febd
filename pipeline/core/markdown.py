"""Markdown that shows text as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; numbers (every cell but the header of a column) stand on the right."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    numeric = [
        bool(cells)
        and all(
            re.fullmatch(r"[-+−]?[\d,. ]*\d[\d,. ]*( ?[%MGKs†‡]| \([\d,.]+\))?|–|", row[i]) for row in cells
        )
        for i in range(len(header))
    ]
    lines = [
        [escape(name) for name in header],
        ["---:" if right else "---" for right in numeric],
        *cells,
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def escape(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
