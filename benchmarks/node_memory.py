"""Memory and reading of the processes of one node, in total: ``python -m benchmarks.node_memory``.

A made-up ImageNet at 64x64 in a temporary folder, in raw shards. Each process opens the training split as `open_loader`
does and takes an epoch. Memory is the sum of the processes' proportional set sizes (PSS) while all of them hold
their split or their window, less what they took before; reading is what they ask the disk for, its cache emptied.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import torch
from torch import distributed

from benchmarks.synthetic import write_shards
from pipeline.data.loading.loader import Loader
from pipeline.data.loading.memory import MemoryLoader
from pipeline.data.loading.node import load_on_node
from pipeline.data.loading.order import SampleOrder
from pipeline.data.loading.streaming import StreamLoader
from pipeline.data.shards.manifest import read_manifest

BATCH = 512
WINDOW = 43_690  # samples, as `open_loader` takes for 64x64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.worker, options.cache)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shards"
        manifest = write_shards(folder, (64, 64), {"train": options.samples, "val": 1}, "raw", 3500)
        whole = sum(shard.bytes for shard in manifest.split("train").shards)
        print(f"{options.samples:,} samples, {whole / 1e9:.2f} GB in shards\n")
        print("| cache | processes | memory of all, GB | read by all, times the data |\n|---|---|---|---|")
        for cache in ("host", "stream"):
            for number in options.processes:
                held, read = _measure(folder, cache, number)
                print(f"| {cache} | {number} | {held / 1e9:.2f} | {read / whole:.2f} |", flush=True)


def _measure(folder: Path, cache: str, number: int) -> tuple[float, float]:
    """Return the bytes that ``number`` processes hold and read in total."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.node_memory", "--worker", str(folder), "--cache", cache]
    environment = os.environ | {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
    }
    started = [
        subprocess.Popen(
            command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE
        )
        for rank in range(number)
    ]
    results = [json.loads(process.communicate()[0]) for process in started]
    return sum(result["held"] for result in results), sum(result["read"] for result in results)


def _work(folder: Path, cache: str) -> None:
    """Be one of the processes: print the bytes that it holds in mid-epoch and has read after it."""
    distributed.init_process_group("gloo")
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    torch.set_num_threads(1)
    manifest = read_manifest(folder)
    shards = tuple(shard.samples for shard in manifest.split("train").shards)
    order = SampleOrder(shards, BATCH, 0, rank, world_size, WINDOW)
    distributed.barrier()
    held, read = -_proportional(), -_read()
    loader: Loader = (
        StreamLoader(order, folder, manifest)
        if cache == "stream"
        else MemoryLoader(order, load_on_node(folder, manifest, "train"))
    )
    batches = loader.epoch(0)
    seen = sum(len(batch.image) for batch in islice(batches, loader.steps_per_epoch // 2))
    distributed.barrier()
    held += _proportional()
    distributed.barrier()
    seen += sum(len(batch.image) for batch in batches)
    read += _read()
    assert abs(seen - sum(shards) / world_size) <= loader.steps_per_epoch
    print(json.dumps({"held": held, "read": read}))
    distributed.barrier()


def _proportional() -> int:
    """Return this process's memory in bytes, each shared page divided by the processes that share it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _read() -> int:
    """Return the bytes that this process has had read from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


if __name__ == "__main__":
    main()
