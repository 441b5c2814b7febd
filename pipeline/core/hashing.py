"""Hashes that name configurations and check files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def configuration_hash(*parts: Any) -> str:
    """Return a short name for a configuration: equal JSON values give equal names (16 hex digits)."""
    text = json.dumps(parts, sort_keys=True, default=lambda part: part.model_dump(mode="json"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
