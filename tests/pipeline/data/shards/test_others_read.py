"""Shards in the hands of other people's readers."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

from tests.pipeline.workshop import Workshop


def test_timm_finds_the_splits(workshop: Workshop) -> None:
    timm = pytest.importorskip("timm.data.readers.reader_wds")
    workshop.classes(images=5)
    manifest = workshop.prepare(encoding="png", samples_per_shard=4)[0]
    info = timm._load_info(str(workshop.shards()))
    assert info == json.loads(manifest.timm_info())
    split = timm._parse_split_info("train", info)
    assert split.num_samples == 10
    assert split.filenames == tuple(shard.name for shard in manifest.splits["train"].shards)
    reader = timm.ReaderWds(str(workshop.shards()), split="train", is_training=False, batch_size=1)
    assert sorted(target for _, target in reader) == [0] * 5 + [1] * 5


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="the datasets library is not installed"
)
def test_the_datasets_library_reads_them(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = importlib.import_module("datasets")
    workshop.classes(images=5)
    workshop.prepare(encoding="png", samples_per_shard=4)
    files = {split: str(workshop.shards() / f"{split}-*.tar") for split in ("train", "val")}
    found = datasets.load_dataset(
        "webdataset", data_files=files, cache_dir=str(workshop.folder / "cache"), streaming=True
    )
    samples = list(found["train"])
    assert sorted(int(sample["cls"]) for sample in samples) == [0] * 5 + [1] * 5
    assert {np.asarray(sample["png"]).shape for sample in samples} == {(8, 8, 3)}
