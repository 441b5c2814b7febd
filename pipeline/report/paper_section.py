"""Our runs beside the paper's rows, and beside one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.core.markdown import escape, table
from pipeline.paper.compare import Comparison, compare, image_size
from pipeline.paper.rivals import all_rows
from pipeline.paper.rows import figure, tables
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking.store import Run

BATCH = 64
"""The paper's "GPU RAM for batch size 64"."""


MARKS = (
    "† extrapolated from the memory per image: no such batch, or no such card, was tried. "
    "‡ counted, not measured: what 64 images keep for the backward pass; there was no GPU. – not given, not measured. "
    "Images a second of ours are the network's alone, in brackets from the shards on; the paper does not say which "
    "its own are. Devices differ, so the times compare networks on one of them, not ours with the paper's.\n"
)


def beside_paper(runs: Sequence[Run] | None) -> str:
    """Return the rows of the paper that runs of ours have the network and data of, as Markdown."""
    if runs is None:
        return "The tracking store did not answer, so there is nothing to compare with.\n"
    found = compare(all_rows().values(), runs)
    if not found:
        return (
            "None of the runs in the store has the network and the data of a row of the paper. "
            "`uv run wavemix paper list` shows the rows, `uv run wavemix paper use ROW` writes one into "
            "params.yaml.\n"
        )
    header = ["tables", "row", "", "paper", "ours", "difference", "parameters", "what differs"]
    text = table(header, (_comparison(entry) for entry in found))
    # What a network costs depends on the images' size.
    like = [entry for entry in found if image_size(entry.run) in (None, entry.row.image_size)]
    if like:
        text += "\n### What it costs, beside the paper\n\n" + resources(like)
    notes = [f"- {escape(entry.row.name)}: {escape(note)}" for entry in found for note in entry.row.notes]
    return text + ("\n" + "\n".join(notes) + "\n" if notes else "")


def resources(found: Iterable[Comparison]) -> str:
    """Return parameters, memory and images a second of rows and runs, two lines each, as Markdown."""
    header = [
        "row",
        "",
        "parameters",
        "memory, batch 64, GB",
        "largest batch, 16 GB",
        "40 GB",
        "training, images/s",
        "inference, images/s",
        "on",
    ]
    rows = [line for entry in found for line in (_paper_cost(entry), _our_cost(entry.run))]
    return table(header, rows) + "\n" + MARKS


def _paper_cost(entry: Comparison) -> list[str]:
    values: dict[str, Any] = {}
    for reported in entry.row.reported:
        values |= {key: value for key, value in reported.items() if value is not None and key not in values}
    gpu = str(values.get("gpu", "not said"))
    memory = values.get("ram_gb_batch64")
    largest = values.get("max_batch")
    # More than the card has, or than it held, can only have been extrapolated.
    extrapolated = (memory or 0) > _card_gb(gpu) or (largest or BATCH) < BATCH
    at_1024 = values.get("ram_gb_batch1024")
    return [
        entry.row.name,
        "paper",
        f"{entry.row.parameters:,}",
        f"{at_1024} at batch 1024"
        if memory is None and at_1024
        else _cell(memory, "†" if extrapolated else ""),
        _cell(largest) if _card_gb(gpu) == 16 else "–",
        _cell(largest) if _card_gb(gpu) == 40 else "–",
        _cell(values.get("train_images_per_second")),
        _cell(values.get("test_images_per_second")),
        gpu,
    ]


def _our_cost(run: Run) -> list[str]:
    cost = {
        name.removeprefix("cost/"): value for name, value in run.metrics.items() if name.startswith("cost/")
    }
    extrapolated = run.tags.get("cost.extrapolated", "").split(", ")
    memory = cost.get("train_memory_batch64_gb")
    mark = "†" if "train_memory_batch64_gb" in extrapolated else ""
    if memory is None and "kept_for_backward_mb" in cost:
        memory, mark = BATCH * cost["kept_for_backward_mb"] / 1000, "‡"

    def rate(name: str) -> str:
        alone, whole = cost.get(f"{name}_images_per_second"), cost.get(f"{name}_end_to_end_images_per_second")
        return _cell(alone) + (f" ({_cell(whole)})" if whole is not None else "")

    return [
        "",
        "ours",
        _cell(run.metrics.get("parameters")),
        _cell(memory, mark),
        _cell(cost.get("max_batch_16gb"), "†"),
        _cell(cost.get("max_batch_40gb"), "†"),
        rate("train"),
        rate("test"),
        run.tags.get("cost.device", "not measured"),
    ]


def _card_gb(gpu: str) -> float:
    """Return the memory of a card: ``V100 16 GB`` has 16; one that is not named has what is asked of it."""
    words = gpu.split()
    return float(words[-2]) if words[-1] == "GB" else float("inf")


def _cell(value: float | None, mark: str = "") -> str:
    """Return three digits or more, and the mark; a dash for what is not there."""
    if value is None:
        return "–"
    return (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") + (f" {mark}" if mark else "")


def _comparison(entry: Comparison) -> list[str]:
    name, value = figure(entry.row)
    return [
        tables(entry.row),
        entry.row.name,
        METRIC_LABELS[name],
        f"{value:.2f}",
        f"{entry.ours:.2f}",
        f"{entry.difference:+.2f}",
        f"{entry.row.parameters:,}",
        "; ".join(entry.differs) or "nothing that the paper says",
    ]
