"""What the report says of our runs beside the paper's rows."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.paper.compare import Comparison
from pipeline.paper.rows import find_row, model_params
from pipeline.report.paper_section import beside_paper, resources
from pipeline.tracking.names import flatten
from pipeline.tracking.store import Run


def compared(row_name: str, metrics: dict[str, float], **tags: str) -> Comparison:
    row = find_row(row_name)
    params = flatten({"model": model_params(row)})
    now = datetime.now(UTC)
    run = Run("id", "name", row.dataset, "FINISHED", now, params, {"parameters": 9, **metrics}, tags)
    return Comparison(row, run, 50.0, [])


def lines(*entries: Comparison) -> list[list[str]]:
    """The cells of the table, without its header."""
    rows = [line for line in resources(entries).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_the_papers_figures_stand_over_ours_and_say_on_what() -> None:
    cost = {
        "parameters": 2_532_680.0,
        "cost/train_memory_batch64_gb": 0.8,
        "cost/max_batch_16gb": 1300.0,
        "cost/max_batch_40gb": 3400.0,
        "cost/train_images_per_second": 16000.0,
        "cost/train_end_to_end_images_per_second": 15000.4,
        "cost/test_images_per_second": 50.26,
    }
    paper, ours = lines(compared("imagenet64 128/7", cost, **{"cost.device": "H200"}))
    assert paper == [
        "imagenet64 128/7", "paper", "2,532,680", "4.7", "216", "–", "1,056", "3,125", "V100 16 GB",
    ]  # fmt: skip
    assert ours == [
        "", "ours", "2,532,680", "0.8", "1,300 †", "3,400 †", "16,000 (15,000)", "50.3", "H200",
    ]  # fmt: skip


def test_what_was_extrapolated_or_counted_or_is_not_there_is_marked() -> None:
    # Table 4: 19 GB of a card of 16; Table 9's A100 has 40 GB; Table 8 has another batch and names no card.
    small, counted = lines(compared("cityscapes-256x512 128/8", {"cost/kept_for_backward_mb": 500.0}))
    assert (small[3], small[4], counted[3]) == ("19 †", "55", "32 ‡")
    levels, old = lines(compared("cifar10 144/7 levels2", {}))
    assert levels[3:] == ["14.2 at batch 1024", "–", "–", "–", "–", "not said"]
    assert old[2:] == ["9", "–", "–", "–", "–", "–", "not measured"]
    whole = {"cost/train_memory_batch64_gb": 25.0}
    _, ours = lines(compared("cifar10 64/6", whole, **{"cost.extrapolated": "train_memory_batch64_gb"}))
    assert ours[3] == "25 †"


def test_only_rows_that_a_run_has_are_shown() -> None:
    run = compared("cifar10 64/6", {"best_val/top1": 0.9}).run
    text = beside_paper([run])
    assert "90.00" in text
    assert "cifar10 64/7" not in text
    assert "None of the runs" in beside_paper([])
    assert "did not answer" in beside_paper(None)
