"""Lock files that another process holds."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.locks import exclusive_lock


@pytest.mark.parametrize(
    ("note", "shown"), [(b"", "another process"), (b"\xff\xfe", "\ufffd"), (b"\x1b[31m", r"\\x1b\[31m")]
)
def test_a_note_of_any_bytes_is_one_line(tmp_path: Path, note: bytes, shown: str) -> None:
    path = tmp_path / "work.lock"
    path.write_bytes(note)
    with path.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=f"{shown}.* is at work on the same"), exclusive_lock(path):
            pass
