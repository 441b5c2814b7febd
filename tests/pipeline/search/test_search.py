"""``wavemix search``: trials drawn, trained, stopped early, taken up after a kill, and shown."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

from pipeline.cli.parser import main
from pipeline.core.errors import UserError
from pipeline.core.locks import exclusive_lock
from pipeline.models import parse_model
from pipeline.params import Params, load_params
from pipeline.search import trial, worker
from pipeline.search.objectives import HIGHER_IS_BETTER, Cost
from pipeline.search.page import evidence, on_front, write_page
from pipeline.search.study import Tried
from pipeline.search.target import Target
from pipeline.search.trial import is_behind
from pipeline.search.worker import Search, open_search, run_search
from pipeline.train.experiment import train_once
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from tests import ROOT

SPACE: dict[str, Any] = {
    "model.dim": {"low": 4, "high": 13},
    "model.depth": {"low": 1, "high": 2},
    "train.phases.0.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "model.expansion": ["deconvolution", "bilinear"],
}


def write(params: Params, **search: Any) -> Path:
    """params.yaml with a search of four trials."""
    values = json.loads(params.model_dump_json()) | {"search": {"space": SPACE, "trials": 4, **search}}
    path = Path("params.yaml")
    path.write_text(json.dumps(values))
    return path


def result(tried: list[Tried]) -> list[tuple[Any, ...]]:
    return [(one.number, one.state, one.drawn, one.cost, one.curve, one.same_as) for one in tried]


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[str]) -> bool:
    """Whether ``one`` is at least as good as ``other`` in all ``objectives`` and better in one."""
    signs = [1 if name in HIGHER_IS_BETTER else -1 for name in objectives]
    gains = [sign * (mine - theirs) for sign, mine, theirs in zip(signs, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def searched(path: Path, **options: Any) -> Search:
    search = open_search(path, **options)
    run_search(search)
    return search


def test_a_search_ends_in_a_front_that_params_can_take(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(toy())
    search = searched(path)
    assert "model.dim: of 4 to 13 these are allowed: 4, 8, 12" in capsys.readouterr().out
    tried = search.study.tried()
    assert len([one for one in tried if one.was_trained]) == 4
    assert all(one.cost is not None and len(one.curve) == 2 for one in tried if one.was_trained)
    front = on_front(tried, "parameters")
    figures = [(one.best, one.figure("parameters")) for one in tried if one.was_trained]
    for one in front:
        mine = (one.best, one.figure("parameters"))
        assert not any(dominates(other, mine, ["accuracy", "parameters"]) for other in figures)  # type: ignore[arg-type]
    monkeypatch.setattr("sys.argv", ["wavemix"])
    main(["search", "--page"])
    page = Path("reports/search/search.html").read_text()
    assert all(name in page for name in ("trial", "What mattered", "model.dim"))
    assert {"parameters.png", "memory.png", "trials.csv"} <= {
        one.name for one in Path("reports/search").iterdir()
    }
    main(["search", "--use", str(front[0].number)])
    chosen = load_params(path)
    assert chosen.model.model_dump()["dim"] == front[0].drawn["model.dim"]
    assert chosen.train.phases[0].lr == front[0].drawn["train.phases.0.lr"]


def test_trials_are_runs_below_one_parent(toy: Callable[..., Params]) -> None:
    search = searched(write(toy(), trials=2))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == search.study.run_id]
    assert sorted(run.data.tags["search.trial"] for run in children) == ["0", "1"]
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.info.run_id for run in children} == {one.run_id for one in search.study.tried()}
    write_page(search, Path("reports/search"))
    parent = client.get_run(str(search.study.run_id))
    assert parent.info.status == "FINISHED"
    assert "search/search.html" in {one.path for one in client.list_artifacts(parent.info.run_id, "search")}


class Die(Observer):
    """A kill that leaves the study as it is."""

    def __init__(self, moment: str, count: int) -> None:
        self.moment, self.count = moment, count

    def _maybe(self, moment: str) -> None:
        if moment == self.moment:
            self.count -= 1
            if self.count < 0:
                raise KeyboardInterrupt

    def before_validation(self, state: TrainingState) -> None:  # noqa: ARG002
        self._maybe("before_validation")

    def after_save(self, state: TrainingState) -> None:  # noqa: ARG002
        self._maybe("after_save")


def test_a_search_that_is_interrupted_ends_as_an_undisturbed_one(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(toy())
    whole = result(searched(path).study.tried())
    Path("studies.db").unlink()
    deaths = [("before_validation", 0), ("after_save", 0), ("before_validation", 1), None]

    def train_and_die(*args: Any) -> Any:
        params, out, curves, observers, tags = args
        death = deaths[0]
        return train_once(params, out, curves, [*observers, *([Die(*death)] if death else [])], tags)

    monkeypatch.setattr(trial, "train_once", train_and_die)
    while deaths[0] is not None:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            searched(path)
        deaths.pop(0)
        if deaths[0] is not None:  # one also dies between draw and training
            with monkeypatch.context() as early:
                early.setattr(worker, "count_cost", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    searched(path)
    assert result(searched(path).study.tried()) == whole


def _start(path: Path) -> subprocess.Popen[bytes]:
    code = (
        "from pathlib import Path; from pipeline.search.worker import open_search, run_search; "
        f"run_search(open_search(Path({str(path)!r})))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def test_two_processes_share_a_study(toy: Callable[..., Params]) -> None:
    path = write(toy(), trials=5)
    both = [_start(path), _start(path)]
    assert [one.wait(timeout=240) for one in both] == [0, 0]
    tried = open_search(path).study.tried()
    trained = [one for one in tried if one.was_trained]
    assert len(trained) == 5
    assert {one.state for one in trained} == {"complete"}
    drawn = [json.dumps(one.drawn, sort_keys=True) for one in trained]
    assert len(set(drawn)) == len(drawn), "none was trained twice"


def test_one_process_at_a_time_makes_the_storage(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = optuna.create_study
    held: list[bool] = []

    def make_alone(**options: Any) -> Any:
        with pytest.raises(UserError, match="at work on the same"), exclusive_lock(Path(lock)):
            pass
        held.append(True)
        return make(**options)

    lock = ".work/search/storage.lock"
    monkeypatch.setattr(optuna, "create_study", make_alone)
    open_search(write(toy()))
    assert held == [True]


@pytest.mark.slow
def test_a_search_killed_five_times_ends_as_an_undisturbed_one(toy: Callable[..., Params]) -> None:
    path = write(toy(), trials=6)
    whole = result(searched(path).study.tried())
    Path("studies.db").unlink()
    random.seed(7)
    for _ in range(5):
        process = _start(path)
        time.sleep(random.uniform(4, 14))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _start(path).wait(timeout=300) == 0
    assert result(open_search(path).study.tried()) == whole


def test_a_target_is_reached_by_the_smallest_and_the_rest_is_not_trained(toy: Callable[..., Params]) -> None:
    path = write(toy(), trials=6)
    search = searched(path, target="top1=0.01")
    tried = search.study.tried()
    trained = [one for one in tried if one.was_trained]
    sizes = [one.figure("parameters") for one in trained]
    assert sizes == sorted(sizes, reverse=True), "after one that reached it only smaller ones are trained"  # type: ignore[type-var]
    assert evidence(search, tried).startswith("top1 1 % is reached with")
    assert f"{min(sizes):,.0f} parameters" in evidence(search, tried)  # type: ignore[type-var]


def test_a_target_that_nobody_reached_ends_with_the_best_shown(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        toy(phases=[{"optimizer": "adamw", "lr": 1e-6, "steps": 1}]), trials=2, space={"model.depth": [1, 2]}
    )
    with pytest.raises(SystemExit) as ended:
        main(["search", "--target", "top1=1.0"])
    assert "No trial reached top1 100 %; the best is trial" in str(ended.value.code)
    assert "search.html" in capsys.readouterr().out


def tried(number: int, parameters: int, curve: tuple[float, ...], state: str = "complete") -> Tried:
    return Tried(number, state, {}, Cost(parameters, 1, 1), curve, 1.0, 10.0, None, "", None)


def test_a_trial_is_stopped_below_the_median_of_those_that_cost_no_more() -> None:
    others = [tried(i, 100, (i / 10, i / 5)) for i in range(1, 6)]  # best after one epoch .1 to .5, median .3
    cost, both = Cost(100, 1, 1), ["accuracy", "parameters"]
    assert is_behind([0.29], 1.0, cost, others, both)
    assert not is_behind([0.3], 1.0, cost, others, both)
    assert not is_behind([0.29], 1.0, cost, others[1:], both), "four are too few"
    assert not is_behind([0.29], 1.0, Cost(99, 1, 1), others, both), "they are larger"
    assert is_behind([0.29], 1.0, Cost(99, 1, 1), others, ["accuracy"]), "where size does not count"
    assert not is_behind([0.29, 0.1, 0.1], 1.0, cost, others, both), "none got so far"
    assert is_behind([0.59, 0.1], 1.0, cost, others, both)
    assert not is_behind([0.7, 0.1], 1.0, cost, others, both), "its best counts"


def test_a_pruned_trial_ends_with_a_killed_run(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "is_behind", lambda curve, *_: len(curve) == 1)
    search = searched(write(toy(), trials=1))
    (only,) = search.study.tried()
    assert (only.state, len(only.curve)) == ("pruned", 1)
    assert list(Path(".work/train").glob("*")) == []
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert sorted(run.info.status for run in runs) == ["KILLED", "RUNNING"]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"space": {"model.dimm": [4, 8]}}, "model.dimm|did you mean 'dim'"),
        ({"space": {"train.phases.0.lrr": [4, 8]}}, "lrr"),
        ({"space": {"train.phases.3.lr": [4, 8]}}, "allowed: 0 to 0"),
        ({"space": {"trein.seed": [4, 8]}}, "did you mean 'train'"),
        ({"space": {"data": ["toy"]}}, "allowed: keys of model and train"),
        ({"space": {"train.seed": [1, 2]}}, "cannot be searched"),
        ({"space": {"model.dim": {"low": 8, "high": 4}}}, "low 8 is above high 4"),
        ({"space": {"model.dim": {"low": 5, "high": 7}}}, "no value from 5 to 7 is allowed.*multiple of 4"),
        ({"space": {"model.dim": [4, 6]}}, "multiple of 4"),
        ({"space": {"train.phases.0.lr": {"low": 0.0, "high": 0.1, "log": True}}}, "logarithm"),
        ({"objectives": ["acuracy"]}, "objectives"),
        ({"trials": None}, "one of trials, epochs, hours"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_work(
    toy: Callable[..., Params], search: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        open_search(write(toy(), **search))
    assert all(re.search(part, str(refused.value)) for part in said.split("|")), refused.value
    assert "\n" not in str(refused.value)
    assert not Path("studies.db").exists()


@pytest.mark.parametrize("text", ["top1", "top1=99", "top1=0", "top2=0.5", "top1=-0.5"])
def test_a_target_is_a_share_of_the_metric(text: str) -> None:
    with pytest.raises(UserError, match="--target: got"):
        Target.parse(text, "parameters", "top1")


def test_statistics_to_recompute_are_refused_where_there_are_none(toy: Callable[..., Params]) -> None:
    pytest.importorskip("timm")
    mixer = parse_model({"family": "mlp_mixer", "dim": 8, "depth": 1, "patch": 4})
    params = toy(precise_bn=2).model_copy(update={"model": mixer})
    with pytest.raises(UserError, match=r"train.precise_bn: got 2, but .* has no batch norm"):
        open_search(write(params, space={"model.depth": [1, 2]}))


def test_a_storage_of_another_version_is_refused(toy: Callable[..., Params]) -> None:
    path = write(toy())
    search = open_search(path)
    stored = optuna.load_study(study_name=search.study.name, storage="sqlite:///studies.db")
    stored.set_user_attr("format", 99)
    with pytest.raises(UserError, match="another version wrote study"):
        open_search(path)
    Path("studies.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="cannot be used"):
        open_search(path)
    values = json.loads(path.read_text())
    values["machine"]["study_storage"] = "postgresql://me:SECRET@127.0.0.1:9/x"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError) as refused:
        open_search(path)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("option", ["--page", "--use=0"])
def test_there_is_nothing_to_show_before_the_first_trial(toy: Callable[..., Params], option: str) -> None:
    write(toy())
    with pytest.raises(SystemExit) as ended:
        main(["search", option])
    assert "no trials yet" in str(ended.value.code)
    assert not Path("reports/search").exists()


def test_without_the_section_it_says_what_to_add(toy: Callable[..., Params]) -> None:
    path = Path("params.yaml")
    path.write_text(toy().model_dump_json())
    with pytest.raises(UserError, match="has no search: section; add one"):
        open_search(path)
