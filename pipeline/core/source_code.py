"""The source code that a result comes from, found by following imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds the packages."""
NEUTRAL = ("pipeline.core", "pipeline.inference", "pipeline.params", "pipeline.plotting", "pipeline.tracking")
"""Packages that change no result of a stage, so that an edit of them reruns nothing.

`evaluate` logs the network with the code that serves it, to MLflow alone. Plots are drawn of results; a stage that
writes them lists ``pipeline/plotting`` by itself.
"""


def import_closure(
    modules: Iterable[str], within: tuple[str, ...], leaving_out: tuple[str, ...] = ()
) -> dict[str, Path]:
    """Return ``modules`` and all that they import, directly or not, with the file of each.

    Imports inside functions count. Nothing is imported to find this out.

    Args:
        modules: dotted names to start from.
        within: packages whose modules are followed; all others are passed over.
        leaving_out: packages in there that are passed over all the same.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or (path := _file(name)) is None:
            continue
        found[name] = path
        waiting += [
            imported
            for imported in _imported(path)
            if _lies_in(imported, within) and not _lies_in(imported, leaving_out)
        ]
    return found


def source_digest(modules: Iterable[str], within: tuple[str, ...], leaving_out: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 of the source of `import_closure`, in hexadecimal."""
    closure = import_closure(modules, within, leaving_out)
    return hashlib.sha256(b"\0".join(closure[name].read_bytes() for name in sorted(closure))).hexdigest()


def _imported(path: Path) -> Iterator[str]:
    """Yield the dotted names of the modules that the file imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _lies_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _file(name: str) -> Path | None:
    """Return the file of the module or package ``name``; None where it is neither, but something in one."""
    path = ROOT.joinpath(*name.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)
