"""Processes of one node hold a split once, and decode it once between them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from pipeline.core.errors import UserError
from pipeline.data.loading import node, open_loader
from pipeline.data.loading.memory import load_on_device, load_samples
from pipeline.data.shards.layout import Encoding
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import ShardReader, empty_samples
from tests.pipeline.toy import write_shards


def in_processes(folder: Path, manifest: Manifest, world_size: int) -> list[dict[str, Any]]:
    """Load the split in that many processes of one node; return what each of them saw."""
    context = multiprocessing.get_context("fork")
    seen: Any = context.Queue()
    started = [
        context.Process(target=load, args=(seen, folder, manifest, rank, world_size))
        for rank in range(world_size)
    ]
    for process in started:
        process.start()
    results = [seen.get(timeout=120) for _ in started]
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    return sorted(results, key=lambda result: int(result["rank"]))


def load(seen: Any, folder: Path, manifest: Manifest, rank: int, world_size: int) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world_size)}
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder.parent / 'meeting'}", rank=rank, world_size=world_size
    )
    decoded = []
    read = ShardReader.read

    def watched(self: ShardReader, *arguments: Any) -> None:
        decoded.append(self._shard.name)
        read(self, *arguments)

    ShardReader.read = watched  # type: ignore[assignment, method-assign]
    result: dict[str, Any] = {"rank": rank, "place": node.agreed_place(node.PLACES[rank])}
    try:
        samples = node.load_on_node(folder, manifest, "train")
        memory = [
            line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:" in line
        ]
        result |= {
            "images": samples.images.numpy().copy(),
            "targets": samples.targets.numpy().copy(),
            "memory": {line[4] for line in memory},
            "decoded": decoded,
            "copies": node.copies_on_node(),
        }
    except UserError as error:
        result["error"] = str(error)
    seen.put(result)
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_processes_share_one_copy_and_its_decoding(tmp_path: Path, task: str) -> None:
    manifest = write_shards(tmp_path / "shards", task)
    alone = load_samples(tmp_path / "shards", manifest, "train")
    results = in_processes(tmp_path / "shards", manifest, 2)
    for result in results:
        assert torch.equal(torch.from_numpy(result["images"]), alone.images)
        assert torch.equal(torch.from_numpy(result["targets"]), alone.targets)
        assert result["copies"] == 1
        assert result["place"] == "host"  # the slower of device and host
    assert len(results[0]["memory"]) == 1
    assert results[0]["memory"] == results[1]["memory"]
    decoded = sorted(name for result in results for name in result["decoded"])
    assert decoded == [shard.name for shard in manifest.split("train").shards]


@pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")
def test_a_damaged_shard_ends_every_process_with_the_same_line(tmp_path: Path) -> None:
    manifest = write_shards(tmp_path / "shards")
    shard = tmp_path / "shards/train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:19_000])
    errors = [result["error"] for result in in_processes(tmp_path / "shards", manifest, 2)]
    assert "train-000001.tar: cut short" in errors[0]
    assert errors[0] == errors[1]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_device_is_filled_by_way_of_one_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, encoding: Encoding
) -> None:
    manifest = write_shards(tmp_path / "shards", task, encoding)
    on_host = load_samples(tmp_path / "shards", manifest, "train")
    rooms: list[int] = []

    def watched(manifest: Manifest, count: int) -> tuple[Any, Any]:
        rooms.append(count)
        return empty_samples(manifest, count)

    monkeypatch.setattr("pipeline.data.loading.memory.empty_samples", watched)
    samples = load_on_device(tmp_path / "shards", manifest, "train", torch.device("cpu"))
    assert torch.equal(samples.images, on_host.images)
    assert torch.equal(samples.targets, on_host.targets)
    assert rooms == [20]


def test_auto_counts_the_processes_of_this_node_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Memory:
        available = 2 * 4 * 1000

    manifest = write_shards(tmp_path / "shards", "classification", "raw")
    monkeypatch.setattr("pipeline.data.loading.open_loader.split_bytes", lambda *_: 999)
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory)
    monkeypatch.setenv("WORLD_SIZE", "64")
    for local_processes, place in (("4", "host"), ("5", "stream")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local_processes)
        assert open_loader.choose_cache(manifest, torch.device("cpu"), on_host=False) == place
