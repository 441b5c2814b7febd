"""params.yaml: what DVC reads is what we read, and a mistake is named in one line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import dvc.utils.serialize
import pytest
from ruamel.yaml import YAML

import wavemix
from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash
from pipeline.data.readers import READERS
from pipeline.fingerprint.downloads import downloads
from pipeline.fingerprint.raw_files import EMBEDDED
from pipeline.params import load_params, parse_params
from tests import ROOT


def ours() -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    return values


def test_the_committed_params_are_valid_and_read_as_dvc_reads_them() -> None:
    params = load_params(ROOT / "params.yaml")
    theirs = dvc.utils.serialize.load_yaml(str(ROOT / "params.yaml"))
    assert theirs == ours()
    assert params.train.phases[0].lr == theirs["train"]["phases"][0]["lr"] == 2e-3


def changed(path: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(ours())
    *sections, key = path.split("/")
    section: Any = values
    for name in sections:
        section = section[int(name)] if name.isdigit() else section[name]
    section[key] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data", "digitz", r"data: got 'digitz' \(did you mean 'digits'\?\), allowed: digits, digit_scenes"),
        ("model/dim", "big", r"model\.dim: got 'big', should be a valid integer"),
        ("model/dim", 0, r"model\.dim: got 0, should be greater than 0"),
        (
            "model/dimm",
            8,
            r"model\.dimm: got 8, no such key of wavemix-lite \(did you mean 'dim'\?\), allowed: depth, dim",
        ),
        ("train/batchsize", 8, r"train\.batchsize: no such key \(did you mean 'batch_size'\?\)"),
        (
            "train/batch_size",
            64.5,
            r"train\.batch_size: got 64\.5, allowed: a whole number from 2 on, or auto",
        ),
        ("train/phases", [], r"train\.phases: got \[\], "),
        (
            "train/phases",
            [{"optimizer": "adam", "epochs": 1}],
            r"optimizer: got 'adam', no such optimiser \(did you",
        ),
        ("train/phases", [{"optimizer": "sgd"}], r"phases\.0: .*needs exactly one of epochs, steps, samples"),
        ("train/phases", [{"optimizer": "sgd", "epochs": 1, "steps": 5}], r"needs exactly one of epochs"),
        (
            "train/phases",
            [{"optimizer": "sgd", "epochs": 0}],
            r"phases\.0\.epochs: got 0, should be greater than 0",
        ),
        ("train/phases/0/learning_rate", 1, r"phases\.0\.learning_rate: no such key"),
        ("train/amp", "fp8", r"train\.amp: got 'fp8', should be 'auto', 'off', 'bf16' or 'fp16'"),
        ("machine/roots", "/data", r"machine\.roots: got '/data', "),
        ("datasets/digits/sizes", [[8]], r"datasets\.digits\.sizes\.0\.1: missing"),
        ("datasets/digits/sizez", 1, r"datasets\.digits\.sizez: no such key \(did you mean 'sizes'\?\)"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse_params(changed(path, value))
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named() -> None:
    values = ours()
    del values["model"]["depth"]
    with pytest.raises(UserError, match=r"model\.depth: missing"):
        parse_params(values)


def test_no_file_and_no_yaml_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run from the repository's top folder"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("model: [1, 2")
    with pytest.raises(UserError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(UserError, match=r"params\.yaml: "):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: café\n".encode("latin-1"), "not UTF-8 .* save it as UTF-8"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        ("a: 1\n".encode("utf-16-le"), "not valid YAML"),
        (
            b"train: {pretrained: 2024-05-01}\n",
            "train.pretrained: got 2024-05-01, which YAML reads as date; put it in",
        ),
        (b"datasets: [{options: {when: 2024-05-01T10:00:00Z}}]\n", "datasets.0.options.when: got 2024"),
        (b"train: {2024-05-01: 1}\n", "train: got 2024-05-01"),
        (b"model: !!binary aGk=\n", "model: got b'hi'"),
        (b"a: &a [*a]\n", "not valid YAML"),
        (b"[" * 5000, "not valid YAML"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_words(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_params(path)


def test_a_size_that_is_not_prepared_is_refused() -> None:
    params = parse_params(changed("train/size", [16, 16]))
    with pytest.raises(UserError, match=r"train\.size: got \[16, 16\], allowed: \[8, 8\]; or add it"):
        _ = params.size


def test_what_only_changes_the_machine_changes_no_hash() -> None:
    before, after = parse_params(ours()), parse_params(changed("machine/device", "cpu"))
    assert configuration_hash(before.model, before.train) == configuration_hash(after.model, after.train)
    other = parse_params(changed("train/seed", 1))
    assert configuration_hash(before.train) != configuration_hash(other.train)


def test_every_dataset_has_a_reader_and_a_source_that_exist() -> None:
    datasets = load_params(ROOT / "params.yaml").datasets
    assert {dataset.reader for dataset in datasets.values()} == set(READERS) - {
        "mask_folder",
        "csv",
        "parquet",
        "webdataset",
    }
    assert {dataset.source for dataset in datasets.values()} <= {None, *EMBEDDED, *downloads()}
    for dataset in datasets.values():
        assert set(dataset.options) <= READERS[dataset.reader].options


def test_every_dataset_of_the_papers_tables_is_in_the_file() -> None:
    params = load_params(ROOT / "params.yaml")
    for row in wavemix.paper_rows().values():
        assert row.dataset in params.datasets
        assert params.datasets[row.dataset].channels == row.config.in_channels


@pytest.mark.parametrize(
    "name", ["my digits", "digits.v2", "a/b", "", "-x", "ä", "a" * 101, "${data}", "a\nb"]
)
def test_a_dataset_has_a_name_that_dvc_and_folders_take(name: str) -> None:
    values = {
        "data": name,
        "datasets": {name: {"reader": "image_folder", "sizes": [[8, 8]]}},
        "model": {"dim": 8, "depth": 1},
        "train": {"phases": [{"optimizer": "adamw", "epochs": 1}]},
    }
    with pytest.raises(
        UserError, match="no name for a dataset; allowed: letters, digits, _ and -, at most 100"
    ):
        parse_params(values)
