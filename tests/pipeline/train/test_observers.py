"""Observers are told each moment of a training, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.data.loading.batch import Batch
from pipeline.params import Params
from pipeline.train.experiment import train
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from tests.pipeline.interrupted import CutOff, Interrupted


class Diary(Observer):
    """Notes the moments, with the number of the step that is next."""

    def __init__(self) -> None:
        self.moments: list[str] = []

    def on_start(self, state: TrainingState) -> None:
        self.moments.append(f"start {state.progress.step}")

    def before_step(self, state: TrainingState, batch: Batch) -> None:
        self.moments.append(f"{state.progress.step}: {len(batch.image)} images")

    def after_step(self, state: TrainingState) -> None:
        self.moments.append(f"next is {state.progress.step}")

    def before_validation(self, state: TrainingState) -> None:
        self.moments.append(f"epoch {state.progress.epoch} ends")

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:  # noqa: ARG002
        assert {"train/loss", "val/loss", "val/top1"} <= row.keys()
        self.moments.append("better" if better else "no better")

    def after_save(self, state: TrainingState) -> None:
        self.moments.append(f"saved at {state.progress.step}")

    def on_end(self) -> None:
        self.moments.append("end")


def test_they_are_told_of_every_moment_and_of_the_end_of_a_failure(toy: Callable[..., Params]) -> None:
    params = toy(batch_size=25, phases=[{"optimizer": "adamw", "epochs": 2}])
    diary = Diary()
    with pytest.raises(Interrupted):
        train(
            params,
            Path("checkpoints/best"),
            Path("reports/curves.csv"),
            [diary, CutOff("before_step", lambda state: state.progress.step == 3)],
        )
    assert diary.moments == [
        "start 0",
        *("0: 25 images", "next is 1", "1: 25 images", "next is 2"),
        *("epoch 0 ends", "better", "saved at 2"),
        *("2: 25 images", "next is 3", "3: 25 images"),
        "end",
    ]
