"""All formats by name."""

from __future__ import annotations

from tests.fuzz import images, project, readers
from tests.fuzz.base import Format

FORMATS: dict[str, Format] = {**images.FORMATS, **readers.FORMATS, **project.FORMATS}
