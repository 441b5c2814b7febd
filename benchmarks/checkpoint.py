"""How long saving the state of a training stops it: ``python -m benchmarks.checkpoint``.

The state of AdamW and a network is copied, and written in the background; "stops" is the copy, "written" is
when all of it was flushed to the disk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import wavemix
from benchmarks.spread import spread
from pipeline.checkpoints.states import StateFolder, state_tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["64/4", "128/8", "256/16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--folder", type=Path, help="on the disk to measure; the system's temporary one by default"
    )
    options = parser.parse_args()
    print("| network | state, MB | stops the training, s | written, s |")
    print("|---|---|---|---|")
    for name in options.models:
        network = wavemix.create_model(name, task="classification", num_classes=1000).to(options.device)
        optimizer = torch.optim.AdamW(network.parameters())
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        tensors = state_tensors(network, optimizer, None, None)
        size = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
        stops, written = [], []
        for step in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                start = time.perf_counter()
                with StateFolder(Path(folder)) as states:
                    states.save(step, tensors, {})
                    stops.append(time.perf_counter() - start)
                written.append(time.perf_counter() - start)
        print(f"| {name} | {size / 1e6:,.0f} | {spread(stops, '.3f')} | {spread(written, '.2f')} |")


if __name__ == "__main__":
    main()
