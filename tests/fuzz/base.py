"""What a format is made of: tiny genuine files, and the project's own way to open them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.data.imaging.decode import CorruptImageError

REFUSALS = (UserError, CorruptImageError)
"""What the project raises on files that are not what they should be; each becomes one line."""


@dataclass(frozen=True)
class Part:
    """Bytes to mutate, and what turns them into a file: it compresses them, or mends their checksums."""

    content: bytes
    wrap: Callable[[bytes], bytes] | None = None

    @property
    def file(self) -> bytes:
        """Return the genuine file."""
        return self.wrap(self.content) if self.wrap else self.content


Files = Mapping[str, Part | bytes]
"""Files by name; `Part`s are mutated, bytes stay as they are."""


@dataclass(frozen=True)
class Format:
    """A kind of file or request."""

    make: Callable[[], Sequence[Files]]
    """Genuine variants. A part of one may be spliced into that of another."""
    use: Callable[[Path], object]
    """Open the files in a folder. It raises one of `REFUSALS`, or returns what was read."""
    checked: bool = False
    """A checksum covers the files: what is read of a mutant must equal what is read of the genuine files."""


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` below ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def genuine(files: Files) -> dict[str, bytes]:
    """Return ``files`` as they are without mutation."""
    return {name: part.file if isinstance(part, Part) else part for name, part in files.items()}
