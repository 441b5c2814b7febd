"""Check of ``benchmarks.gpu`` that two processes on one device get the gradients of one process."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmarks.gpu_setup import Workload
from pipeline.core.device import set_arithmetic
from wavemix.sync_norm import synchronise_batch_norm

PROCESSES = 2


def gradients_of_two(workload: Workload, device: torch.device, folder: Path) -> Tensor:
    """Return the gradients of all parameters as one vector, from two processes that have half of the batch each.

    They talk over gloo, since NCCL refuses two processes on one GPU.
    """
    multiprocessing: Any = torch.multiprocessing
    with TemporaryDirectory(dir=folder) as meeting:
        multiprocessing.spawn(_work, (Path(meeting), workload, str(device)), nprocs=PROCESSES)
        found: Tensor = torch.load(Path(meeting) / "gradients", weights_only=True)
    return found


def _work(rank: int, folder: Path, workload: Workload, device: str) -> None:
    set_arithmetic("no", deterministic=False)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    cpu = workload.probe(torch.device("cpu"), "no")
    images, target = cpu.images(workload.batch), cpu.target(workload.batch)
    network = cpu.network.to(device).train()
    synchronise_batch_norm(network)
    logits = network(images[rank::PROCESSES].to(device))
    loss = nn.functional.cross_entropy(logits, target[rank::PROCESSES].to(device), reduction="sum")
    slopes = torch.autograd.grad(loss / workload.batch, list(network.parameters()))
    gradients = torch.cat([slope.flatten() for slope in slopes]).cpu()
    dist.all_reduce(gradients)
    if rank == 0:
        torch.save(gradients, folder / "gradients")
    dist.destroy_process_group()
