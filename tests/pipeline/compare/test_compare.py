"""``wavemix compare``: networks trained beside each other, taken up after a kill, shared, and shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.cli.parser import main
from pipeline.compare import costs, running
from pipeline.compare.comparison import Comparison, open_comparison
from pipeline.compare.costs import Cost
from pipeline.compare.lengths import epoch_seconds, fill
from pipeline.compare.page import write_page
from pipeline.compare.running import run_comparison, training_params
from pipeline.core.errors import UserError
from pipeline.params import Params
from pipeline.train.experiment import train_once
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from tests import ROOT

NETWORKS: list[Any] = [{"dim": 8, "depth": 1}, {"dim": 4, "depth": 2}]
OUT = Path("reports/compare")


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "TURN_SECONDS", 0.01)


def write(params: Params, networks: list[Any] = NETWORKS, **settings: Any) -> Path:
    """params.yaml with a comparison."""
    values = json.loads(params.model_dump_json())
    values["machine"]["compile"] = "off"
    path = Path("params.yaml")
    path.write_text(json.dumps(values | {"compare": {"networks": networks, **settings}}))
    return path


def opened(path: Path, *rows: str) -> Comparison:
    return open_comparison(path, rows, None, OUT)


def curves(comparison: Comparison) -> dict[str, list[tuple[float, ...]]]:
    return {one.name: [result.curve for result in comparison.results(one)] for one in comparison.entrants}


def test_each_network_is_trained_with_each_seed_and_shown(toy: Callable[..., Params]) -> None:
    path = write(toy(repeats=2))
    main(["compare"])
    comparison = opened(path)
    found = curves(comparison)
    assert list(found) == ["WaveMix-Lite 8/1", "WaveMix-Lite 4/2"]
    assert all(len(each) == 2 and all(len(curve) == 2 for curve in each) for each in found.values())
    assert {p.name for p in OUT.iterdir()} >= {
        "compare.html", "compare.md", "compare.csv", "parameters.png", "memory_gb.png", "training.png", "gmacs.png",
        "curves.png",
    }  # fmt: skip
    page = (OUT / "compare.md").read_text()
    assert "seed 0, 1" in page
    assert "±" in page
    assert "missing" not in page
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == comparison.run_id]
    assert sorted(run.data.tags["compare.network"] for run in children) == sorted([*found, *found])
    assert {run.info.status for run in children} == {"FINISHED"}
    artifacts = {one.path for one in client.list_artifacts(str(comparison.run_id), "compare")}
    assert {"compare/compare.html", "compare/parameters.png"} <= artifacts
    assert client.get_run(str(comparison.run_id)).info.status == "FINISHED"


def test_a_result_is_that_of_a_training_by_itself(toy: Callable[..., Params]) -> None:
    comparison = opened(write(toy()))
    run_comparison(comparison)
    entrant = comparison.entrants[1]
    params = training_params(comparison, entrant, 0)
    trained = train_once(params, Path("alone"), Path("alone.csv"))
    assert trained.value == max(comparison.results(entrant)[0].curve)


def test_a_network_without_batch_norm_takes_part_where_the_others_have_theirs_recomputed(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm")
    mixer = {"family": "mlp_mixer", "dim": 8, "depth": 1, "patch": 4}
    comparison = opened(write(toy(precise_bn=1), [NETWORKS[0], mixer]))
    assert "compare.networks[1]: train.precise_bn does nothing to it" in capsys.readouterr().out
    assert run_comparison(comparison) == []
    assert [one.params.train.precise_bn for one in comparison.entrants] == [1, 0]
    assert all(curves(comparison).values())


def test_only_what_is_new_is_trained(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, int]] = []

    def counted(params: Params, *args: Any) -> Any:
        trained.append((params.model.label, params.train.seed))
        return train_once(params, *args)

    monkeypatch.setattr(running, "train_once", counted)
    write(toy(), NETWORKS[:1])
    main(["compare", "--page"])
    assert "1 of 1 trainings are missing" in (OUT / "compare.md").read_text()
    assert not trained
    main(["compare"])
    write(toy(repeats=2), NETWORKS)
    main(["compare"])
    assert trained == [
        ("WaveMix-Lite 8/1", 0),
        ("WaveMix-Lite 4/2", 0),
        ("WaveMix-Lite 8/1", 1),
        ("WaveMix-Lite 4/2", 1),
    ]
    main(["compare"])
    assert len(trained) == 4
    capsys.readouterr()


def test_the_page_of_another_machine_shows_its_results(toy: Callable[..., Params]) -> None:
    path = write(toy())
    run_comparison(opened(path))
    record = opened(path).folder / "costs.json"
    content = json.loads(record.read_text())
    content["where"]["device"] = "a GPU"
    record.write_text(json.dumps(content))
    main(["compare", "--page"])
    page = (OUT / "compare.md").read_text()
    assert "Costs: device a GPU" in page
    assert all(name in page for name in curves(opened(path)))
    main(["compare"])
    assert json.loads(record.read_text()) == content, "nothing is missing, so nothing is measured again"


class Die(Observer):
    """A kill in the first validation."""

    def before_validation(self, state: TrainingState) -> None:  # noqa: ARG002
        raise KeyboardInterrupt


def test_one_that_is_interrupted_ends_as_an_undisturbed_one(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(toy())
    whole = opened(path)
    run_comparison(whole)
    expected = curves(whole)
    for file in whole.folder.iterdir():
        file.unlink()

    def die(params: Params, out: Path, csv: Path, observers: list[Observer], tags: dict[str, str]) -> Any:
        return train_once(params, out, csv, [*observers, Die()], tags)

    with monkeypatch.context() as patched:
        patched.setattr(running, "train_once", die)
        for _ in range(2):
            with pytest.raises(SystemExit):
                run_comparison(opened(path))
    assert not any(curves(opened(path)).values())
    run_comparison(opened(path))
    assert curves(opened(path)) == expected


def test_two_workers_share_the_trainings(toy: Callable[..., Params]) -> None:
    path = write(toy(repeats=2))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline.cli.start", "compare"]
    workers = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert sum(text.count(": training ") for text in said) == 4
    assert all(len(each) == 2 for each in curves(opened(path)).values())


def test_a_training_that_fails_is_named_and_the_others_go_on(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(params: Params, *args: Any) -> Any:
        if params.model.label == "WaveMix-Lite 8/1":
            raise UserError("the loss is nan")
        return train_once(params, *args)

    monkeypatch.setattr(running, "train_once", fail)
    path = write(toy())
    with pytest.raises(SystemExit) as ended:
        main(["compare"])
    assert "WaveMix-Lite 8/1, seed 0: the loss is nan" in str(ended.value.code)
    assert [len(each) for each in curves(opened(path)).values()] == [0, 1]
    assert "1 of 2 trainings are missing" in (OUT / "compare.md").read_text()


def test_equal_time_by_hand(toy: Callable[..., Params]) -> None:
    """100 images a second of training, 200 of validation."""
    phases = [
        {"optimizer": "adamw", "epochs": 3, "warmup": {"samples": 24}},
        {"optimizer": "sgd", "steps": 3},
    ]
    comparison = opened(write(toy(phases=phases, batch_size=16)))
    manifest = comparison.manifest
    train, val = manifest.split("train").samples, manifest.split("val").samples
    seconds = epoch_seconds(Cost(1, 1.0, 1.0, [100.0], [200.0]), comparison.params, manifest)
    assert seconds == train / 100 + val / 200
    filled = fill(comparison.params, manifest, 10 * seconds, seconds).train.phases
    sgd = 3 * 16 / train
    factor = 10 / (3 + sgd)
    assert [phase.epochs for phase in filled] == pytest.approx([3 * factor, sgd * factor], abs=1e-3)
    assert filled[0].warmup is not None
    assert filled[0].warmup.epochs == pytest.approx(24 / train * factor, abs=1e-3)
    assert all(phase.steps is phase.samples is None for phase in filled)


def test_the_length_of_a_training_stays_as_it_was_measured_first(toy: Callable[..., Params]) -> None:
    path = write(toy(), minutes=0.01)
    comparison = opened(path)
    run_comparison(comparison)
    lengths = [training_params(comparison, one, 0).train.phases for one in comparison.entrants]
    path = write(toy(), [*NETWORKS, {"dim": 12, "depth": 1}], minutes=0.01)
    more = opened(path)
    assert more.folder == comparison.folder
    run_comparison(more)
    assert [training_params(more, one, 0).train.phases for one in more.entrants[:2]] == lengths
    assert "each for 0.01 minutes" in write_page(more, OUT).with_suffix(".md").read_text()


def test_rows_of_the_paper_stand_beside_its_figures(toy: Callable[..., Params]) -> None:
    path = write(
        toy(),
        [{"dim": 8, "depth": 1}, "mnist ResNet-18", {"family": "resnet", "depth": 18, "stem": "imagenet"}],
    )
    names = [one.name for one in opened(path).entrants]
    assert names == ["WaveMix-Lite 8/1", "ResNet-18 (CIFAR stem)", "ResNet-18"]
    assert all(one.row is None for one in opened(path).entrants), "toy is no data of the paper"


@pytest.mark.parametrize(
    ("networks", "arguments", "message"),
    [
        (["cifar10 ResNet-19"], [], "did you mean 'cifar10 ResNet-18'"),
        ([{"dim": 6, "depth": 1}], [], "compare.networks[0]: "),
        ([{"family": "resnet", "depth": 18, "dim": 8}], [], "no such key of resnet"),
        ([{"dim": 8, "depth": 1}, {"depth": 1, "dim": 8}], [], "the same network as compare.networks[0]; leave"),
        ([{"family": "unet", "encoder": "resnet18"}], [], "answers once per pixel"),
        (NETWORKS, ["--batch", "4"], "--batch goes with --costs"),
        (NETWORKS, ["--minutes", "0"], "--minutes: got 0.0, allowed: more than 0"),
        (NETWORKS, ["--table", "77"], "--table 77: no rows; allowed: 1, 2, 3, 4"),
        ([], [], "compare.networks"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_before_any_work(
    toy: Callable[..., Params], networks: list[Any], arguments: list[str], message: str
) -> None:
    write(toy(), networks)
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    assert message in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
    assert not OUT.exists()


def test_without_networks_it_says_how_to_name_some(toy: Callable[..., Params]) -> None:
    Path("params.yaml").write_text(toy().model_dump_json())
    with pytest.raises(SystemExit, match="name rows of `wavemix paper list`"):
        main(["compare"])


def test_auto_batches_are_refused(toy: Callable[..., Params]) -> None:
    write(toy(batch_size="auto"))
    with pytest.raises(SystemExit, match="differs between networks"):
        main(["compare"])


def test_a_network_never_has_the_costs_of_another(toy: Callable[..., Params]) -> None:
    """Two that would be called alike are measured each by itself, in whatever order they come."""
    parameters = []
    for width in (8, 4):
        comparison = opened(write(toy(), [{"dim": 8, "depth": 1, "ff": width}, {"dim": 8, "depth": 1}]))
        run_comparison(comparison)
        _, costs = comparison.measured()
        parameters.append([costs[one.key].parameters for one in comparison.entrants])
    assert parameters[0][1] == parameters[1][1]
    assert parameters[0][0] != parameters[1][0]
