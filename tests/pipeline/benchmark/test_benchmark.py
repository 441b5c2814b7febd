"""The resource columns: counts against known ones; what is timed only for being there and being labelled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.benchmark.bench import MIN_BATCHES, Bench, Cost, as_markdown, benchmark
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import Manifest, read_manifest
from pipeline.params import Params
from pipeline.profiling.probe import Probe, largest


def toy_bench(params: Params, manifest: Manifest) -> Bench:
    return Bench(params, manifest, torch.device("cpu"), "no")


def test_counts_the_multiply_accumulates_of_the_papers_network(experiment: Callable[..., Params]) -> None:
    params = experiment("classification")
    manifest = read_manifest(shards_folder("toy", params.size))
    model = params.model.model_copy(update={"dim": 128, "depth": 7})
    large = manifest.model_copy(update={"size": (64, 64), "class_names": [str(i) for i in range(1000)]})
    parameters, macs = toy_bench(params.model_copy(update={"model": model}), large).size()
    assert parameters.value == 2_532_680  # Table 1
    # a block: 5.25 C^2 HW, of which the wavelet is none; the stem: 9 (3 * 64 + 64 * 128) HW; the head: 128 * 1000
    by_hand = 7 * 5.25 * 128**2 * 64**2 + 9 * (3 * 64 + 64 * 128) * 64**2 + 128 * 1000
    # What the network merges (the stem's two convolutions, for one) it does not compute.
    assert 0.9 * by_hand < macs.value * 1e9 < 1.01 * by_hand


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_says_of_every_figure_how_it_was_got(experiment: Callable[..., Params], task: str) -> None:
    params = experiment(task)
    params = params.model_copy(update={"machine": params.machine.model_copy(update={"device": "cpu"})})
    figures = benchmark(params, Path("out"))
    written = json.loads(Path("out/benchmark.json").read_text())
    assert written["where"]["device"].startswith("cpu")
    assert list(written["figures"]) == [figure.name for figure in figures]
    assert all(figure.value > 0 for figure in figures)
    assert all(figure.how.startswith(("counted", "measured", "extrapolated")) for figure in figures)
    timed = {figure.name: figure.n for figure in figures if figure.name.endswith("images_per_second")}
    assert len(timed) == 4  # train and test, network only and end to end
    assert min(timed.values()) > 1
    assert not any(name.startswith("max_batch") for name in written["figures"])  # nothing to say of a GPU


def test_the_device_is_waited_for_after_many_batches(
    experiment: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = experiment("classification")
    bench = toy_bench(params, read_manifest(shards_folder("toy", params.size)))
    waits: list[int] = []
    batches: list[int] = []

    def work() -> int:
        batches.append(1)
        return 1

    monkeypatch.setattr(bench, "_wait", lambda: waits.append(len(batches)))
    bench._rate(work)
    assert waits == [0, MIN_BATCHES]
    monkeypatch.setattr("pipeline.benchmark.bench.MIN_SECONDS", 0.0)
    bench._rate(work)
    assert waits[2:] == [MIN_BATCHES, MIN_BATCHES + 1]


def test_the_table_shows_spread_and_way() -> None:
    where = {
        "device": "cpu",
        "processor": "EPYC",
        "image": [8, 9],
        "amp": "no",
        "torch": "2",
        "compiled": False,
    }
    text = as_markdown([Cost("rate", 1234.5, "images/s", "measured", 5, 2.345)], where)
    assert "| rate | 1,234 ± 2.35 | images/s | 5 | measured |" in text
    assert "On cpu (EPYC), images of 8x9" in text


def test_a_card_too_small_for_64_images_is_extrapolated_from(
    experiment: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak_bytes(_: Probe, batch: int) -> int:
        """Of a card of which 24 images a step fill 9 GB, and a step takes 1 GB whatever the batch."""
        if batch > 24:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return round(1e9 + batch * 8e9 / 24)

    params = experiment("classification", splits={"train": 70, "val": 6})
    bench = Bench(params, read_manifest(shards_folder("toy", params.size)), torch.device("cpu"), "no")
    assert bench.batch == 64
    monkeypatch.setattr(Probe, "peak_bytes", peak_bytes)
    bench.device = torch.device("cuda")
    bench.batch = largest(bench.probe.peak_bytes, 64)
    assert bench.batch == 16
    figures = {figure.name: figure for figure in bench.memory()}
    assert figures["train_memory_batch64_gb"].value == pytest.approx(1 + 64 / 3)
    assert figures["max_batch_16gb"].value == 45  # (16 - 1) * 3, less what floats leave
    assert figures["max_batch_40gb"].value == 117
    assert all(figure.how == "extrapolated from batches of 8 and 16" for figure in figures.values())
