"""The limits that SECURITY.md names are those of the code."""

from __future__ import annotations

import re
from importlib import import_module

from tests import ROOT

ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<value>\d+) \| `(?P<module>[\w.]+)\.(?P<constant>[A-Z_]+)` \|$", re.MULTILINE
)


def test_each_limit_on_the_page_is_the_constants_value() -> None:
    rows = ROW.findall((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(rows) > 15
    for what, value, module, constant in rows:
        assert getattr(import_module(module), constant) == int(value), what
