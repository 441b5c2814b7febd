"""params.yaml as a store may see it."""

from __future__ import annotations

import io
from pathlib import Path

from ruamel.yaml import YAML

PRIVATE = "machine"
"""The section that changes no result; it holds addresses of this machine and of stores, perhaps with passwords."""


def shareable_params(path: Path) -> str:
    """Return the text of ``path`` with its comments and without the section `PRIVATE`."""
    yaml = YAML()
    yaml.width = 4096  # no line is broken that was none
    document = yaml.load(path.read_text(encoding="utf-8")) or {}
    document.pop(PRIVATE, None)
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()
