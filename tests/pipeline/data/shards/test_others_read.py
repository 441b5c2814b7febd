"""Shards in the hands of other people's readers, and other people's shards in ours."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipeline.data.loading.memory import load_samples
from pipeline.data.shards.layout import Encoding
from tests.pipeline.toy import write_shards
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


@pytest.mark.parametrize("task", ["classification", "multilabel", "segmentation"])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_shards_that_stock_webdataset_writes_are_read(tmp_path: Path, task: str, encoding: Encoding) -> None:
    folder = tmp_path / "shards"
    manifest = write_shards(folder, task, encoding)
    ours = load_samples(folder, manifest, "train")
    written = []
    for shard in manifest.splits["train"].shards:
        path = folder / shard.name
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
        with webdataset.TarWriter(str(path), mtime=0) as writer:
            for number, sample in enumerate(samples):
                content = {key: value for key, value in sample.items() if not key.startswith("__")}
                writer.write({"__key__": f"{number:09d}"} | content)
        tar = path.read_bytes()
        digest = hashlib.sha256(tar).hexdigest()
        written.append(shard.model_copy(update={"bytes": len(tar), "sha256": digest}))
    split = manifest.splits["train"].model_copy(update={"shards": written})
    theirs = load_samples(
        folder, manifest.model_copy(update={"splits": manifest.splits | {"train": split}}), "train"
    )
    np.testing.assert_array_equal(theirs.images, ours.images)
    np.testing.assert_array_equal(theirs.targets, ours.targets)
