"""Cross-validation: from raw files to folds, and from folds to a mean."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.core.errors import UserError
from pipeline.data.raw.splits import with_folds
from pipeline.data.shards.folds import of_fold
from pipeline.data.shards.manifest import read_manifest
from pipeline.evaluate.evaluation import evaluate
from pipeline.params import Params
from pipeline.train.experiment import train_once
from tests.pipeline.toy import write_shards
from tests.pipeline.workshop import Workshop, noise, png

BEST, CURVES = Path("checkpoints/best"), Path("reports/curves.csv")
COUNTS = {"fold0": 24, "fold1": 25, "fold2": 26, "test": 9}


@pytest.fixture
def folded(toy: Callable[..., Params]) -> Callable[..., Params]:
    """``toy``, whose shards are folds."""
    write_shards(Path("data/shards/toy/8x12"), counts=COUNTS)
    return toy


def test_train_and_val_become_folds_of_one_size_with_each_class_alike(workshop: Workshop) -> None:
    workshop.classes("a b c", images=7, splits="train")
    workshop.classes("a b c", images=4, splits="val test")
    manifest = workshop.prepare(folds=4)[0]
    folds = [manifest.splits[f"fold{number}"] for number in range(4)]
    assert sorted(fold.samples for fold in folds) == [8, 8, 8, 9]
    assert all(2 <= count <= 3 for fold in folds for count in fold.histogram)
    assert manifest.splits["test"].samples == 12
    names = [sample.name for part in _parts(workshop, 4).values() for sample in part]
    assert len(set(names)) == 33 + 12
    assert [sample.name for sample in _parts(workshop, 4)["fold2"]] == [
        sample.name for sample in _parts(workshop, 4)["fold2"]
    ]


def _parts(workshop: Workshop, folds: int, reader: str = "image_folder", **options: Any) -> dict[str, Any]:
    return dict(with_folds(workshop.listing(reader, **options), folds, "own").splits)


def test_a_group_stays_in_one_fold(workshop: Workshop) -> None:
    rows = ["image,label,patient"]
    for number in range(30):
        workshop.write(f"{number}.png", png(noise(4, 4, seed=number)))
        rows.append(f"{number}.png,{number % 2},p{number // 4}")
    workshop.write("train.csv", "\n".join(rows).encode())
    parts = _parts(workshop, 3, "csv", group="patient")
    assert sorted(map(len, parts.values())) == [8, 10, 12]
    homes: dict[str | None, set[str]] = {}
    for name, samples in parts.items():
        for sample in samples:
            homes.setdefault(sample.group, set()).add(name)
    assert len(homes) == 8
    assert all(len(folds) == 1 for folds in homes.values())
    with pytest.raises(UserError, match="got 9, but there are fewer groups; take fewer folds"):
        _parts(workshop, 9, "csv", group="patient")


def test_equal_images_in_two_folds_are_leaks(workshop: Workshop) -> None:
    for number in range(8):
        workshop.write(f"train/{'ab'[number % 2]}/{number}.png", png(noise(8, 8, seed=number // 4)))
    findings = workshop.prepare(folds=2)[0].findings
    assert findings is not None
    assert findings.leaked["fold1"].count > 0


def test_a_view_has_one_fold_as_val_and_the_others_as_train(folded: Callable[..., Params]) -> None:
    folded()
    prepared = read_manifest(Path("data/shards/toy/8x12"))
    for fold in range(3):
        view = of_fold(prepared, fold)
        assert list(view.splits) == ["train", "val", "test"]
        assert view.splits["val"] == prepared.splits[f"fold{fold}"]
        assert view.splits["train"].samples == 75 - COUNTS[f"fold{fold}"]
        shards = Counter(shard.name for split in view.splits.values() for shard in split.shards)
        assert shards == Counter(shard.name for split in prepared.splits.values() for shard in split.shards)
        assert sum(view.splits["train"].histogram) == view.splits["train"].samples
    assert "fold" not in prepared.model_dump()


def test_all_folds_are_nested_runs_of_which_the_best_is_kept_and_evaluated_on_its_own(
    folded: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    params = folded(fold="all")
    best = train_once(params, BEST, CURVES)
    assert "of 3 trainings: best" in capsys.readouterr().out
    store = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = store.search_runs([one.experiment_id for one in store.search_experiments()])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    assert "3 folds" in str(parent.info.run_name)
    children = [one for one in runs if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(one.data.params["train.fold"] for one in children) == ["0", "1", "2"]
    tops = [max(p.value for p in store.get_metric_history(one.info.run_id, "val/top1")) for one in children]
    assert parent.data.metrics["val/top1/mean"] == pytest.approx(sum(tops) / 3)
    assert best.value == max(tops)
    assert best.fold in (0, 1, 2)
    evaluate(params, BEST, Path("reports"))
    alone = train_once(folded(fold=best.fold), Path("alone"), Path("alone.csv"))
    assert (alone.value, alone.fold) == (best.value, best.fold)


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (3, "train.fold: got 3, but toy has 3 folds; allowed: 0 to 2, or all"),
        (None, "train.fold: got none, but toy has 3 folds"),
    ],
)
def test_a_fold_that_there_is_not_is_named(
    folded: Callable[..., Params], fold: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train_once(folded(fold=fold), BEST, CURVES)
    assert not BEST.exists()


@pytest.mark.parametrize("fold", [0, "all"])
def test_a_fold_of_data_without_folds_is_refused(toy: Callable[..., Params], fold: int | str) -> None:
    with pytest.raises(
        UserError, match=f"train.fold: got {fold}, but toy has no folds; set datasets.toy.folds"
    ):
        train_once(toy(fold=fold), BEST, CURVES)


@pytest.mark.parametrize(
    "dataset", [{"folds": 1}, {"folds": 101}, {"folds": 3, "val_fraction": 0.2}, {"folds": "all"}]
)
def test_folds_that_cannot_be_are_refused(workshop: Workshop, dataset: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"datasets\.own"):
        workshop.params(**dataset)


def test_more_folds_than_samples_are_refused(workshop: Workshop) -> None:
    workshop.classes("a b", images=2, splits="train")
    with pytest.raises(
        UserError, match=r"datasets\.own\.folds: got 5, but there are fewer samples; take fewer folds"
    ):
        workshop.prepare(folds=5)
