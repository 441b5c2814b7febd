"""Checks of ``benchmarks.gpu`` that take the time and the memory: of the device, of the networks, of the loader."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch

from benchmarks.gpu_setup import Check, Row, Setup, Workload
from benchmarks.network import THEIRS, Setting, Worker
from benchmarks.synthetic import write_shards
from pipeline.core.device import set_arithmetic
from pipeline.data.loading.open_loader import open_loader
from pipeline.data.loading.prefetch import prefetch
from pipeline.data.shards.manifest import FILE_NAME, read_manifest
from pipeline.profiling.probe import AMP_TYPES, Probe
from wavemix import switches
from wavemix.measure import count_macs
from wavemix.model import WaveMixLite

BATCH = 64
"""The paper's "GPU RAM for batch size 64"."""
GOALS = {
    "128/7 at 64x64": (16_000, 0.8),
    "256/7 at 64x64": (6_000, 1.5),
    "256/16 at 512x1024": (300, 25),
}
"""Images trained per second on an H200, and GB of memory at `BATCH`."""
AUTOTUNING = 3
"""Times as long as another compilation takes one that tries several kernels."""


def checks(setup: Setup) -> list[Check]:
    """Return the checks, the most telling first."""
    first, *others = setup.sizes.timed
    compiling = {workload: 20.0 + 2 * workload.depth for workload in setup.sizes.timed}
    on = ("conv_1x1_as_mm", "subpixel_expansion", "plain_stem")
    return [
        Check("ceilings", 5, partial(_ceilings, setup)),
        *(_both(setup, first, seconds=compiling[first])),
        *(check for workload in others for check in _both(setup, workload, seconds=compiling[workload])),
        *(Check(f"memory, {each.name}", 5, partial(_memory, setup, each)) for each in setup.sizes.timed),
        *(check for workload in setup.sizes.timed for check in _lean(setup, workload, compiling[workload])),
        *(_training(setup, first, True, compiling[first], name) for name in on),
        *(_loader(setup, cache) for cache in ("device", "host", "stream")),
        _training(setup, setup.sizes.small, True, 40),
        _training(setup, setup.sizes.small, True, 40, "cuda_graphs"),
        *(_eager(setup, workload) for workload in setup.sizes.timed),
        *(check for workload in setup.sizes.timed[:2] for check in _beside_authors(setup, workload)),
        *(_training(setup, each, True, compiling[each], name) for each in others for name in on),
        _training(setup, first, True, AUTOTUNING * compiling[first], "max_autotune"),
    ]


def _both(setup: Setup, workload: Workload, seconds: float) -> list[Check]:
    """Return training and inference, compiled."""
    name = f"inference compiled, {workload.name}"
    inference = Check(name, seconds, partial(_inferred, setup, workload, compiled=True))
    return [_training(setup, workload, True, seconds), inference]


def _lean(setup: Setup, workload: Workload, seconds: float) -> list[Check]:
    """Return memory and training where the cheap activations are computed again."""
    lean = replace(workload, memory="lean")
    memory = Check(f"memory, {lean.name}", 5, partial(_memory, setup, lean))
    return [memory, _training(setup, lean, True, seconds)]


def _eager(setup: Setup, workload: Workload) -> Check:
    return Check(f"training and inference eager, {workload.name}", 10, partial(_in_eager, setup, workload))


def _training(
    setup: Setup, workload: Workload, compiled: bool, seconds: float, switch: str | None = None
) -> Check:
    words = ["training", *(["compiled"] if compiled else []), *([f"with {switch}"] if switch else [])]
    run = partial(_trained, setup, workload, compiled, switch)
    return Check(f"{' '.join(words)}, {workload.name}", seconds, run)


def _ceilings(setup: Setup) -> Row:
    return Row(f"copy {setup.copy_rate / 1e9:,.3g} GB/s, bf16 product {setup.flops / 1e12:,.3g} TFLOP/s")


def _trained(setup: Setup, workload: Workload, compiled: bool, switch: str | None = None) -> Row:
    """Measure training steps on noise that lies on the device."""
    probe, rate = _training_rate(setup, workload, compiled, switch)
    kept = 2 * probe.kept_bytes() * rate / setup.copy_rate
    shares = [
        f"{_product_share(setup, probe, 3 * rate):.1%} of the product",
        f"{kept:.1%} of the copy or more",
    ]
    goal = [f"goal {GOALS[workload.name][0]:,} on an H200"] if workload.name in GOALS else []
    return Row(_images(rate, workload), ", ".join([*shares, *goal]))


def _training_rate(
    setup: Setup, workload: Workload, compiled: bool, switch: str | None = None
) -> tuple[Probe, float]:
    """Return the network and the images per second that it trains on."""
    set_arithmetic(setup.amp, deterministic=False)
    with switches.switched(switch) if switch else nullcontext():
        probe = workload.probe(setup.device, setup.amp)
        if compiled:
            probe.forward = cast(torch.nn.Module, _compiled(probe.network))
        images, target = probe.images(workload.batch), probe.target(workload.batch)
        return probe, workload.batch / setup.seconds(lambda: probe.step(images, target))


def _inferred(setup: Setup, workload: Workload, compiled: bool) -> Row:
    """Measure the fused network in the precision of training."""
    rate, probe = _inference_rate(setup, workload, compiled)
    return Row(_images(rate, workload), f"{_product_share(setup, probe, rate):.1%} of the product")


def _inference_rate(setup: Setup, workload: Workload, compiled: bool) -> tuple[float, Probe]:
    set_arithmetic(setup.amp, deterministic=False)
    probe = workload.probe(setup.device, setup.amp)
    dtype = AMP_TYPES.get(setup.amp, torch.float32)
    network: Any = cast(WaveMixLite, probe.network).fuse().to(dtype)
    images = probe.images(workload.batch).to(dtype)
    forward = _compiled(network) if compiled else network
    with torch.inference_mode():
        return workload.batch / setup.seconds(lambda: forward(images)), probe


def _compiled(network: Any) -> Any:
    """Return ``network`` compiled as the switches in force ask for; what was compiled before is forgotten."""
    torch._dynamo.reset()
    options: Any = switches.compile_options(network.config, next(network.parameters()).device.type)
    return torch.compile(network, dynamic=False, options=options)


def _in_eager(setup: Setup, workload: Workload) -> Row:
    _, trained = _training_rate(setup, workload, compiled=False)
    inferred, _ = _inference_rate(setup, workload, compiled=False)
    return Row(f"{trained:,.0f} images/s trained, {inferred:,.0f} inferred")


def _product_share(setup: Setup, probe: Probe, forward_passes: float) -> float:
    """Return the share of the product's rate that so many forward passes of an image per second take."""
    return 2 * count_macs(probe.network, probe.images(1)) * forward_passes / setup.flops


def _images(rate: float, workload: Workload) -> str:
    return f"{rate:,.0f} images/s, {1000 * workload.batch / rate:,.3g} ms a step of {workload.batch}"


def _memory(setup: Setup, workload: Workload) -> Row:
    """Measure the peak of an eager training step, or on a CPU what a step keeps for its backward pass."""
    probe = workload.probe(setup.device, setup.amp)
    if setup.device.type == "cuda":
        used, how = float(probe.peak_bytes(BATCH)), "peak"
    else:
        used, how = BATCH * probe.kept_bytes(), "activations kept"
    goal = f"goal {GOALS[workload.name][1]} GB" if workload.name in GOALS else ""
    return Row(f"{used / 1e9:,.3g} GB {how} at batch {BATCH}", goal)


def _loader(setup: Setup, cache: str) -> Check:
    return Check(
        f"loader, from the {cache}" if cache != "stream" else "loader, streaming",
        10,
        partial(_loaded, setup, cache),
    )


def _loaded(setup: Setup, cache: str) -> Row:
    """Measure whole epochs of batches that arrive on the device, from where ``cache`` puts the split."""
    first, folder = setup.sizes.timed[0], setup.folder / "loaded"
    if (folder / FILE_NAME).exists():
        manifest = read_manifest(folder)
    else:
        manifest = write_shards(folder, first.size, {"train": setup.sizes.samples, "val": 1}, "raw")
    loader = open_loader(first.params({"cache": cache}), manifest, folder, setup.device, 0, 1)
    seconds = setup.seconds(lambda: deque(prefetch(loader.epoch(0, 0), setup.device), maxlen=0))
    rate = setup.sizes.samples / seconds
    height, width = first.size
    return Row(
        f"{rate:,.0f} images/s, {rate * height * width * 3 / 1e9:,.3g} GB/s",
        f"batches of {first.batch} at {height}x{width}",
    )


def _beside_authors(setup: Setup, workload: Workload) -> list[Check]:
    """Return checks against the authors' package, where there is an interpreter that has it."""
    if setup.authors is None or workload.task != "classification":
        return []
    return [
        Check(
            f"training beside the authors', {workload.name}", 90, partial(_against, setup, workload, "train")
        ),
        Check(
            f"inference beside the authors', {workload.name}", 60, partial(_against, setup, workload, "infer")
        ),
    ]


def _against(setup: Setup, workload: Workload, mode: str) -> Row:
    """Measure the authors' network in its best setting, and ours compiled, one after the other."""
    best = max(
        _authors_rate(setup, workload, mode, layout, compiled)
        for layout, compiled in (("channels first", False), ("channels last", False), ("channels last", True))
    )
    if mode == "train":
        _, ours = _training_rate(setup, workload, compiled=True)
    else:
        ours, _ = _inference_rate(setup, workload, compiled=True)
    return Row(f"{ours:,.0f} images/s, the authors' {best:,.0f}", f"{ours / best:.1f} times the authors'")


def _authors_rate(setup: Setup, workload: Workload, mode: str, layout: str, compiled: bool) -> float:
    """Return images per second in a process of its own; 0 where the network does not run in that setting."""
    assert setup.authors is not None
    dtype = AMP_TYPES.get(setup.amp, torch.float32)
    setting = Setting(
        library=THEIRS,
        size=f"{workload.dim}/{workload.depth}",
        mode=mode,
        dtype=str(dtype).removeprefix("torch."),
        compiled=compiled,
        memory="default",
        batch=workload.batch,
        image=workload.size[0],
        classes=workload.classes,
        stem_stride=1,
        device=setup.device.type,
        threads=torch.get_num_threads(),
        seconds=2.0,
        cpu_time=False,
        layout=layout,
    )
    worker = Worker(setup.authors, setting)
    try:
        return 0.0 if "error" in worker.facts else worker.time()
    finally:
        worker.close()
