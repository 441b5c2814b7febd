"""Markdown to a page that needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from pipeline.core.markdown import escape, table
from pipeline.report.html import to_html

PIXEL = bytes.fromhex("89504e470d0a1a0a")


class Text(HTMLParser):
    """Collects what a reader sees in table cells, and the tags there are."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and self.tags[-1] in ("td", "th"):
            self.cells[-1] += data


def test_any_class_name_is_shown_as_it_is() -> None:
    names = ["a|b", "<script>alert(1)</script>", "*star*", "back`tick", "[link](x)", "# head", "c:\\d"]
    read = Text()
    read.feed(to_html(table(["name"], [[name] for name in names]), "t", Path()))
    assert [cell.strip() for cell in read.cells] == ["name", *names]
    assert "script" not in read.tags


def test_pictures_are_inside_the_page(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.png").write_bytes(PIXEL)
    page = to_html("![caption](<sub/a b.png>)", "t", tmp_path)
    assert re.findall(r'src="([^"]*)"', page) == ["data:image/png;base64,iVBORw0KGgo="]


def test_columns_of_numbers_stand_on_the_right() -> None:
    text = table(["name", "value"], [["x", "1,234"], ["y", "−0.5"], ["z", "–"]])
    assert text.splitlines()[1] == "| --- | ---: |"


def test_line_breaks_do_not_break_a_row() -> None:
    assert escape("two\nlines") == "two lines"
