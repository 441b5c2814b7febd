"""The rules of the house, held over the import graph: layers, seams, what a stage depends on, sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.source_code import NEUTRAL, import_closure
from tests import ROOT

LAYERS = (
    {"wavemix", "pipeline.core"},
    {"pipeline.models", "pipeline.data.shards"},
    {"pipeline.params", "pipeline.data.raw", "pipeline.plotting", "pipeline.checkpoints"},
    {"pipeline.data.imaging", "pipeline.data.readers", "pipeline.data.loading", "pipeline.tracking"},
    {"pipeline.tasks"},
    {"pipeline.inference", "pipeline.paper", "pipeline.profiling"},
    {
        "pipeline.fingerprint",
        "pipeline.prepare",
        "pipeline.train",
        "pipeline.evaluate",
        "pipeline.benchmark",
        "pipeline.report",
    },
    {"pipeline.cli", "pipeline.compare", "pipeline.search"},
    {"stages"},
)
"""From the ground up. Rooms of one layer may import one another as long as there is no cycle; stages may not."""
STAGES = LAYERS[-3]
ALONE = {"mlflow": "pipeline.tracking", "optuna": "pipeline.search"}
"""Packages that one room alone imports. The file that MLflow runs as a model is the exception."""
ATOMIC = "pipeline.core.atomic"
MODELS_CODE = "pipeline/inference/serving.py"
MOST_MODULES, MOST_LINES, LONGEST_FUNCTION = 16, 300, 50


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of each module of the project's packages."""
    for package in ("wavemix", "pipeline", "stages"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def room(name: str) -> str | None:
    """The room that a module lies in."""
    rooms = [each for layer in LAYERS for each in layer if name == each or name.startswith(f"{each}.")]
    return max(rooms, key=len, default=None)


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, inside functions too, and for ``from a import b`` both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    return {each for name in imported(path) if (each := room(name)) is not None}


GRAPH = {name: path for name, path in modules() if room(name) is not None}
LEVEL = {each: level for level, layer in enumerate(LAYERS) for each in layer}


def test_every_module_lies_in_a_room() -> None:
    homeless = [name for name, _ in modules() if room(name) is None]
    assert homeless == ["pipeline", "pipeline.data"]


@pytest.mark.parametrize("name", GRAPH)
def test_imports_go_downwards(name: str) -> None:
    own = room(name)
    assert own is not None
    for other in rooms_imported(GRAPH[name]) - {own}:
        assert LEVEL[other] <= LEVEL[own], f"{name} imports {other}, which lies above it"
        assert not (own in STAGES and other in STAGES), f"{name} imports another stage, {other}"


def test_rooms_import_one_another_in_no_circle() -> None:
    waiting = {own: set[str]() for own in LEVEL}
    for name, path in GRAPH.items():
        own = room(name)
        assert own is not None
        waiting[own] |= rooms_imported(path) - {own}
    while ready := [own for own, needs in waiting.items() if not needs]:
        for own in ready:
            del waiting[own]
        for needs in waiting.values():
            needs -= set(ready)
    assert not waiting, f"circles among {sorted(waiting)}"


@pytest.mark.parametrize(("package", "owner"), ALONE.items())
def test_one_room_alone_touches(package: str, owner: str) -> None:
    users = {
        name
        for name, path in GRAPH.items()
        if any(each.split(".")[0] == package for each in imported(path))
        and not str(path).endswith(MODELS_CODE)
    }
    assert {str(room(name)) for name in users} == {owner}


def renames(path: Path) -> Iterator[str]:
    """Calls that rename a file or flush it to the disk. `Path.replace` takes one argument, `str.replace` two."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            arguments = len(node.args) + len(node.keywords)
            if (
                called in ("os.replace", "os.rename", "os.renames", "os.fsync", "shutil.move")
                or node.func.attr == "rename"
                or (node.func.attr == "replace" and arguments == 1)
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {called}"


def test_one_module_alone_renames() -> None:
    """All that is written under a temporary name, flushed and renamed is written by `pipeline.core.atomic`."""
    found = {name: list(renames(path)) for name, path in GRAPH.items() if name.startswith("pipeline.")}
    assert found.pop(ATOMIC), "what this test looks for is found where it belongs"
    assert [call for calls in found.values() for call in calls] == []


def test_nothing_outside_the_models_names_a_network() -> None:
    """Families tell their label, their form for inference and their blocks."""
    named = re.compile(r"WaveMixLite\b|\.fuse\(|\"WaveMix-Lite \{")
    found = [
        str(path.relative_to(ROOT))
        for path in GRAPH.values()
        if path.is_relative_to(ROOT / "pipeline")
        and not path.is_relative_to(ROOT / "pipeline/models")
        and named.search(path.read_text())
    ]
    assert found == []


def test_no_room_asks_which_task_it_is() -> None:
    asked = re.compile(r"task(\.name)? *[!=]= *\"")
    found = [
        str(path.relative_to(ROOT))
        for path in GRAPH.values()
        if path.is_relative_to(ROOT / "pipeline") and asked.search(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "benchmark", "report"])
def test_a_stage_depends_on_the_code_of_its_result(stage: str) -> None:
    """dvc.yaml lists every folder that the stage imports, but for what changes no result."""
    entry = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
    listed = [
        dep
        for dep in entry.get("do", entry)["deps"]
        if dep.split("/")[0] in ("pipeline", "wavemix", "stages")
    ]
    for dep in listed:
        assert (ROOT / dep).exists(), f"{stage}: {dep} is not there"
        assert dep.startswith("stages/") or (ROOT / dep).is_dir(), (
            f"{stage}: {dep} is a file, list its folder"
        )
    neutral = (*NEUTRAL, *(READ_BY_FINGERPRINT if stage == "prepare" else ()))
    closure = import_closure([f"stages.{stage}"], ("pipeline", "wavemix", "stages"), neutral)
    needed = {str(path.relative_to(ROOT)) for path in closure.values()} - {
        "pipeline/__init__.py",
        "stages/__init__.py",
    }
    missing = {
        path for path in needed if not any(path == dep or path.startswith(f"{dep}/") for dep in listed)
    }
    assert not missing, f"dvc.yaml, {stage}: list the folders of {sorted(missing)}"
    idle = {dep for dep in listed if not any(path == dep or path.startswith(f"{dep}/") for path in needed)}
    assert idle <= {"pipeline/plotting"}, f"dvc.yaml, {stage}: nothing in {sorted(idle)} is imported"


READ_BY_FINGERPRINT = ("pipeline.data.readers", "pipeline.data.raw.blobs")
"""The fingerprint that `prepare` depends on has the digest of the reader's own code."""


def test_reporting_code_is_no_part_of_a_training() -> None:
    closure = import_closure(["stages.train"], ("pipeline", "wavemix"), NEUTRAL)
    reporting = (
        "pipeline.evaluate",
        "pipeline.report",
        "pipeline.inference",
        "pipeline.paper",
        "pipeline.benchmark",
    )
    assert [name for name in closure if name.startswith(reporting)] == []


def test_predicting_needs_no_reader() -> None:
    closure = import_closure(["pipeline.inference.predictor", "pipeline.inference.files"], ("pipeline",))
    assert [name for name in closure if name.startswith(("pipeline.data.readers", "pipeline.prepare"))] == []


def test_folders_modules_and_functions_are_small() -> None:
    crowded = [
        str(folder.relative_to(ROOT))
        for folder in {path.parent for path in GRAPH.values()}
        if len(list(folder.glob("*.py"))) > MOST_MODULES
    ]
    assert crowded == []
    for path in GRAPH.values():
        source = path.read_text()
        assert source.count("\n") <= MOST_LINES, f"{path} is too long"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name} has {length} lines"
