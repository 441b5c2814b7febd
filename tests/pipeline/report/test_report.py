"""The page of an experiment: whole, by itself, and honest about what it does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.evaluate import evaluation
from pipeline.evaluate.evaluation import evaluate
from pipeline.params import Params
from pipeline.report import page
from pipeline.report.page import curve_panels, make_report
from pipeline.tracking import ui_view
from pipeline.tracking.names import metric_name

CHECKPOINT, REPORTS = Path("checkpoints/best"), Path("reports")


def test_one_run_from_training_to_report(experiment: Callable[..., Params], tmp_path: Path) -> None:
    """The whole way through a real store: figures, files, model and page are in the run that trained."""
    params = experiment("classification", run=True)
    trained, measured = evaluate(params, CHECKPOINT, REPORTS)
    found = params.train.model_copy(update={"batch_size": "auto"})
    page = make_report(params.model_copy(update={"train": found}), CHECKPOINT, REPORTS).read_text()
    assert "4 (auto)" in page
    top1 = f"{100 * measured.values['top1']:.2f} %"
    assert f"<strong>{top1} top-1</strong> on 10 test images" in page
    assert "toy run (this one)" in page
    assert "pipe|and &lt;b&gt;" not in re.sub(r"<[^>]*>", "", page)  # names are in pictures and CSV only
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) >= 7
    assert all(source.startswith("data:image/png;base64,") for source in sources)

    import mlflow

    store = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = store.search_runs([store.get_experiment_by_name("toy").experiment_id])
    assert run.info.run_id == trained.run_id
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/top1"] == measured.values["top1"]
    assert run.data.metrics["cost/kept_for_backward_mb"] == 1.5
    once = [
        store.get_metric_history(trained.run_id, name) for name in ("test/top1", "cost/kept_for_backward_mb")
    ]
    assert [point.step for points in once for point in points] == [0, 0]  # the UI draws bars
    assert run.data.tags["cost.device"] == "cpu"
    named = metric_name("class_recall", "pipe|and <b>")
    assert {"best_val/top1", named, "epoch"} <= set(run.data.metrics)
    assert f"runs/{trained.run_id}/artifacts/report.html" in run.data.tags["mlflow.note.content"]
    state = json.loads(json.loads(store.get_experiment_by_name("toy").tags[ui_view.TAG])["state"])
    shown = {column.split("`")[1] for column in state["selectedColumns"] if column.startswith("metrics")}
    assert shown == {"test/top1", "parameters", "cost/train_images_per_second"}
    assert [section["name"] for section in state["compareRunSections"]][:2] == ["val", "train"]
    artifacts = {entry.path for entry in store.list_artifacts(trained.run_id)}
    assert {"report.html", "evaluate", "data"} <= artifacts
    version = store.get_model_version_by_alias("wavemix-lite-toy", "champion")
    assert version.run_id == trained.run_id


def test_says_when_val_also_picked_the_checkpoint(
    experiment: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = experiment("segmentation", splits={"train": 6, "val": 4})
    monkeypatch.setattr(evaluation, "log", lambda *_: None)
    monkeypatch.setattr(page, "_log", lambda *_: None)
    Path("mlflow.db").write_text("not a database")
    evaluate(params, CHECKPOINT, REPORTS)
    text = make_report(params, CHECKPOINT, REPORTS).read_text()
    assert "on 4 val images" in text
    assert "The same val images picked the checkpoint" in text
    assert "The tracking store did not answer" in text
    assert (REPORTS / "report.md").read_text().startswith("# WaveMix-Lite 8/1 on toy")


def test_a_stage_that_was_not_run_is_named(experiment: Callable[..., Params]) -> None:
    params = experiment("classification")
    with pytest.raises(UserError, match=r"metrics.json: missing; run `uv run dvc repro`"):
        make_report(params, CHECKPOINT, REPORTS)
    assert not (REPORTS / "report.html").exists()


def test_train_and_val_share_a_panel_and_gaps_are_left_out() -> None:
    nan = float("nan")
    rows = [
        {"epoch": 1, "step": 5, "train/loss": 2.0, "val/loss": 1.0, "val/top1": 0.1, "learning_rate": 1e-3},
        {"epoch": 2, "step": 9, "train/loss": 1.0, "val/loss": nan, "val/top1": 0.2, "learning_rate": 1e-3},
    ]
    panels = curve_panels(rows)
    assert list(panels) == ["Loss", "Top-1", "Learning rate"]
    assert panels["Loss"] == {"train": [(1, 2.0), (2, 1.0)], "val": [(1, 1.0)]}
    assert curve_panels([]) == {}
