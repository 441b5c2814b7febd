"""README and docs: every link leads somewhere, every command parses, every YAML block is a valid experiment."""

from __future__ import annotations

import ast
import io
import re
import shlex
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.cli.parser import build_parser
from pipeline.core.yaml_file import read_yaml
from pipeline.params import parse_params
from tests import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
LANGUAGES = {"bash", "python", "yaml", "mermaid", ""}
"""A block without a language is a picture in characters, such as the tree in CONTRIBUTING."""
Block = tuple[str, str, str]
"""Page, language, content."""


def blocks(*languages: str) -> list[Block]:
    return [
        (page.name, language, content)
        for page in PAGES
        for language, content in re.findall(
            r"^ *```(\w*)\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE
        )
        if not languages or language in languages
    ]


def commands() -> list[str]:
    """Lines of bash blocks that call the command line, without comments, and with what was broken over lines joined."""
    lines = [line for _, _, content in blocks("bash") for line in content.replace("\\\n", " ").splitlines()]
    inline = [
        code for page in PAGES for code in re.findall(r"`(uv run wavemix [a-z][^`\n]*)`", page.read_text())
    ]
    return [line for line in lines + inline if re.search(r"\bwavemix [a-z]", line)]


def test_every_block_is_of_a_kind_that_is_checked_here() -> None:
    assert {language for _, language, _ in blocks()} <= LANGUAGES
    assert len(blocks("bash")) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_parses(line: str) -> None:
    words = shlex.split(re.sub(r'"\$\((.*)\)"', r"\1", line), comments=True)
    arguments = words[words.index("wavemix") + 1 :]
    arguments = arguments[: next((i for i, word in enumerate(arguments) if word in ("&&", "|", ";")), None)]
    if "--help" in arguments:
        return
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            build_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{line}: {said.getvalue().splitlines()[-1]}")


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the sections that a block shows changed, as a reader would edit params.yaml."""
    return {
        **values,
        **{
            key: merged(values[key], value)
            if isinstance(value, dict) and isinstance(values.get(key), dict) and key != "model"
            else value
            for key, value in changes.items()
        },
    }


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: f"{block[0]}: {block[2][:40]!r}")
def test_every_yaml_block_is_a_valid_experiment(block: Block) -> None:
    shown = YAML(typ="safe").load(block[2])
    parse_params(merged(read_yaml(ROOT / "params.yaml"), shown), block[0])


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"{block[0]}: {block[2][:40]!r}")
def test_every_python_block_is_python(block: Block) -> None:
    ast.parse(block[2])
