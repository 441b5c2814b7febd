"""Manifests, params and descriptions that Hypothesis makes: the valid round-trip, the broken give one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checkpoints.trained import DESCRIPTION, Trained, load_trained
from pipeline.core.errors import UserError
from pipeline.data.shards.manifest import FILE_NAME, Manifest, Shard, Split, read_manifest
from pipeline.params import parse_params
from tests.fuzz.base import write
from tests.fuzz.project import checkpoint_files

Result = TypeVar("Result")

MAX_MESSAGE = 2000  # characters

several = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
sizes = st.tuples(st.integers(1, 64), st.integers(1, 64))
shares = st.floats(0, 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def splits(draw: st.DrawFn, name: str, classes: int) -> Split:
    """Return a split whose samples, shards and histogram add up."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    histogram = [0] * classes
    for _ in range(sum(counts)):
        histogram[draw(st.integers(0, classes - 1))] += 1
    shards = [
        Shard(name=f"{name}-{i:06d}.tar", samples=count, bytes=4096 * count, sha256="0" * 64)
        for i, count in enumerate(counts)
    ]
    return Split(samples=sum(counts), shards=shards, histogram=histogram)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Return a manifest of a classification that agrees with itself."""
    classes = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    channels = draw(st.sampled_from((1, 3)))
    values = {
        "task": "classification",
        "dataset": draw(names),
        "class_names": classes,
        "size": draw(sizes),
        "channels": channels,
        "filter": "box",
        "geometry": "squash",
        "encoding": draw(st.sampled_from(("raw", "png"))),
        "mean": draw(st.lists(shares, min_size=channels, max_size=channels)),
        "std": draw(st.lists(st.floats(0.01, 1), min_size=channels, max_size=channels)),
        "splits": {name: draw(splits(name, len(classes))) for name in ("train", "val")},
        "source_fingerprint": "0" * 64,
    }
    return Manifest.model_validate(values)


@st.composite
def params(draw: st.DrawFn) -> dict[str, Any]:
    """Return what a params.yaml may hold, as YAML gives it."""
    size = list(draw(sizes))
    length: dict[str, float] = draw(st.sampled_from(({"epochs": 1.5}, {"steps": 10}, {"samples": 1000})))
    phase = {"optimizer": draw(st.sampled_from(("adamw", "sgd"))), "lr": draw(st.floats(1e-6, 1)), **length}
    name = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True))
    return {
        "data": name,
        "datasets": {
            name: {
                "reader": "image_folder",
                "sizes": [size, [3, 3]],
                "val_fraction": draw(st.floats(0, 0.9)),
                "options": draw(
                    st.dictionaries(names, st.booleans() | st.integers(0, 9) | names, max_size=2)
                ),
            }
        },
        "model": {"dim": draw(st.sampled_from((8, 16))), "depth": draw(st.integers(1, 4))},
        "train": {
            "phases": [phase] * draw(st.integers(1, 3)),
            "size": size,
            "seed": draw(st.integers(0, 1 << 31)),
        },
        "machine": {
            "workers": draw(st.none() | st.integers(1, 64)),
            "roots": draw(st.dictionaries(names, names)),
        },
    }


@st.composite
def broken(draw: st.DrawFn, valid: st.SearchStrategy[Any]) -> Any:
    """Return a valid value, somewhere in which any JSON value has taken the place of another, or is added."""
    top = {"": json.loads(json.dumps(draw(valid)))}
    parent: Any = top
    key: Any = ""
    while isinstance(parent[key], dict | list) and parent[key] and draw(st.integers(0, 3)):
        parent = parent[key]
        key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
    if isinstance(parent[key], dict) and draw(st.booleans()):
        parent[key][draw(names)] = draw(json_values)
    else:
        parent[key] = draw(json_values)
    return top[""]


def one_line_or_result(open_it: Callable[[], Result]) -> Result | None:
    """Return what ``open_it`` returns, or None where it refuses with one line."""
    try:
        return open_it()
    except UserError as error:
        message = str(error)
    assert 0 < len(message) < MAX_MESSAGE
    assert "\n" not in message
    return None


def _write_manifest(folder: Path, text: str, manifest: Manifest) -> None:
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    write(folder, {FILE_NAME: text.encode(), **{shard.name: bytes(shard.bytes) for shard in shards}})


@several
@given(manifests())
def test_a_valid_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    with TemporaryDirectory() as folder:
        _write_manifest(Path(folder), manifest.model_dump_json(indent=2), manifest)
        assert read_manifest(Path(folder)) == manifest


@several
@given(st.data())
def test_a_broken_manifest_gives_one_line(data: st.DataObject) -> None:
    manifest = data.draw(manifests())
    value = data.draw(broken(st.just(manifest.model_dump(mode="json"))))
    with TemporaryDirectory() as folder:
        _write_manifest(Path(folder), json.dumps(value), manifest)
        read = one_line_or_result(lambda: read_manifest(Path(folder)))
    assert read is None or read.num_classes > 0


@several
@given(params())
def test_valid_params_are_read_as_they_were_written(values: dict[str, Any]) -> None:
    read = parse_params(values)
    assert read.train.size == tuple(values["train"]["size"])
    assert parse_params(json.loads(read.model_dump_json())) == read


@several
@given(broken(params()))
def test_broken_params_give_one_line(values: Any) -> None:
    read = one_line_or_result(lambda: parse_params(values))
    assert read is None or read.data in read.datasets


def _description() -> dict[str, Any]:
    values = json.loads(checkpoint_files()[0][DESCRIPTION])
    assert isinstance(values, dict)
    return values


@several
@given(st.data())
def test_a_valid_description_is_read_as_it_was_written(data: st.DataObject) -> None:
    changes: dict[str, Any] = {
        "data": data.draw(names),
        "class_names": data.draw(st.lists(names, min_size=6, max_size=6, unique=True)),
        "epoch": data.draw(st.integers(1, 1000)),
        "value": data.draw(st.floats(0, 1)),
        "mean": data.draw(st.lists(shares, min_size=3, max_size=3)),
        "std": data.draw(st.lists(st.floats(0.01, 1), min_size=3, max_size=3)),
    }
    trained = Trained.model_validate_json(json.dumps(_description() | changes))
    assert Trained.model_validate_json(trained.model_dump_json(indent=2)) == trained
    assert trained.class_names == changes["class_names"]


@several
@given(st.data())
def test_a_broken_description_gives_one_line(data: st.DataObject) -> None:
    value = data.draw(broken(st.just(_description())))
    with TemporaryDirectory() as folder:
        write(Path(folder), {**checkpoint_files()[0], DESCRIPTION: json.dumps(value).encode()})
        loaded = one_line_or_result(lambda: load_trained(Path(folder)))
    assert loaded is None or loaded.trained.task == "classification"
