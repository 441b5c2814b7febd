"""MLflow that never hurts: against a SQLite store, and a real server that is killed and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from pipeline.core.errors import UserError
from pipeline.params import Params
from pipeline.tracking import names, run
from pipeline.tracking.outbox import Outbox
from pipeline.tracking.params_file import shareable_params
from pipeline.tracking.store import list_runs
from pipeline.train.experiment import train, train_once
from tests import ROOT
from tests.pipeline.interrupted import CutOff, Interrupted
from tests.pipeline.workshop import wait_for

OUT, CURVES = Path("checkpoints/best"), Path("reports/curves.csv")


def client() -> MlflowClient:
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def test_a_run_tells_what_was_done(toy: Callable[..., Params]) -> None:
    trained = train(toy(phases=[{"optimizer": "adamw", "epochs": 2}]), OUT, CURVES)
    assert trained.run_id is not None
    run = client().get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "WaveMix-Lite 8/2 dropout 0.1, bs16, seed 0"
    assert run.data.params["model.dim"] == "8"
    assert run.data.params["model.stem_stride"] == "1"  # not None: it is compared with the paper's rows
    assert run.data.params["train.phases.0.optimizer"] == "adamw"
    assert {"amp", "device", "data.hash", "git.commit", "torch"} <= run.data.tags.keys()
    points = client().get_metric_history(trained.run_id, "val/top1")
    assert [point.step for point in points] == [4, 8]
    assert run.data.metrics["parameters"] == trained.parameters
    assert run.data.metrics["train/images_per_second"] > 0
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "toy"
    names = {entry.path for entry in client().list_artifacts(trained.run_id)}
    assert {"params.yaml", "curves.csv", "checkpoint", "data"} <= names


def test_a_resumed_training_goes_on_in_its_run_with_no_point_twice(toy: Callable[..., Params]) -> None:
    params = toy(phases=[{"optimizer": "adamw", "epochs": 4}])
    with pytest.raises(Interrupted):
        train(params, OUT, CURVES, [CutOff("before_step", lambda state: state.progress.step == 11)])
    # Epoch 2 was logged; with its state gone it is trained and logged again.
    (newest,) = Path(".work").glob("train/*/states/step-000000008")
    shutil.rmtree(newest)
    trained = train(params, OUT, CURVES)
    (run,) = client().search_runs([e.experiment_id for e in client().search_experiments()])
    assert run.info.run_id == trained.run_id
    points = client().get_metric_history(run.info.run_id, "val/loss")
    assert [point.step for point in points] == [4, 8, 12, 16]


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder),
    ]
    # What runs its asynchronous jobs takes as long to start as the server.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_points_made_while_the_server_is_down_are_sent_when_it_is_back(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    hurry(monkeypatch, 60.0)
    port = free_port()
    with server(tmp_path, port):
        tracker = run.Tracker(f"http://127.0.0.1:{port}", "toy", tmp_path / "journal")
        tracker.start(name="run")
        tracker.log_metrics({"loss": 3.0}, 1)
        wait_for(lambda: not tracker._points.waiting(), 600)
    started = time.monotonic()
    tracker.log_metrics({"loss": 2.0}, 2)
    tracker.set_tags({"colour": "blue"})
    assert time.monotonic() - started < 1
    while "is not responding" not in capsys.readouterr().out:
        time.sleep(0.05)
    with server(tmp_path, port):
        tracker.log_metrics({"loss": 1.0}, 3)
        assert tracker.finish() == []
        store = MlflowClient(f"http://127.0.0.1:{port}")
        assert tracker.run_id is not None
        points = store.get_metric_history(tracker.run_id, "loss")
        assert [(point.step, point.value) for point in points] == [(1, 3.0), (2, 2.0), (3, 1.0)]
        assert store.get_run(tracker.run_id).data.tags["colour"] == "blue"


def test_a_store_that_never_answers_costs_no_training_and_is_named_at_the_end(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = toy()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    for name, seconds in (("RETRY_SECONDS", 0.2), ("FINISH_SECONDS", 4.0)):
        monkeypatch.setattr(run, name, seconds)
    trained = train(params, OUT, CURVES)
    assert trained.run_id is None
    output = capsys.readouterr().out
    assert output.count("is not responding") == 1
    (kept,) = Path(".work/unsent").iterdir()
    assert (
        f"points, kept in {kept.resolve()} for the next start; params; dataset; artifact manifest.json"
        in output
    )
    keys = {json.loads(line)["key"] for line in kept.read_text().splitlines()[1:]}
    assert {"train/loss", "val/top1"} <= keys


def hurry(monkeypatch: pytest.MonkeyPatch, finish: float) -> None:
    for name, seconds in (("SEND_SECONDS", 0.1), ("RETRY_SECONDS", 0.2), ("FINISH_SECONDS", finish)):
        monkeypatch.setattr(run, name, seconds)


def test_points_that_were_kept_are_sent_by_the_next_start(
    toy: Callable[..., Params],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One run that the server knows and loses in the middle, and one that it has never heard of."""
    toy()
    port, unsent = free_port(), Path(".work/unsent")
    uri = f"http://127.0.0.1:{port}"
    known = run.Tracker(uri, "toy", tmp_path / "known")
    hurry(monkeypatch, 60.0)
    with server(tmp_path, port):
        known.start(name="known")
        known.log_metrics({"loss": 3.0}, 1)
        wait_for(lambda: not known._points.waiting(), 600)
    hurry(monkeypatch, 4.0)
    known.log_metrics({"loss": 2.0}, 2)
    known.finish("KILLED")
    unknown = run.Tracker(uri, "toy", tmp_path / "unknown")
    unknown.start(name="unknown", tags={"colour": "blue"})
    unknown.log_metrics({"loss": 0.0}, 1)
    unknown.finish()
    kept = {path: path.read_bytes() for path in unsent.iterdir()}
    assert len(kept) == 2
    assert known.run_id is not None

    hurry(monkeypatch, 60.0)
    with server(tmp_path, port):
        for again in range(2):
            if again:  # as if it had been killed before it could delete the one of the known run
                path, content = next((path, c) for path, c in kept.items() if known.run_id.encode() in c)
                path.write_bytes(content)
            following = run.Tracker(uri, "toy", tmp_path / f"following-{again}")
            following.start(name="following")
            assert following.finish() == []
            assert list(unsent.iterdir()) == []
        store = MlflowClient(uri)
        points = store.get_metric_history(known.run_id, "loss")
        assert [(point.step, point.value) for point in points] == [(1, 3.0), (2, 2.0)]
        runs = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
        assert sorted(run.info.run_name for run in runs) == ["following", "following", "known", "unknown"]
        assert store.get_run(known.run_id).info.status == "KILLED"
        (made,) = [run for run in runs if run.info.run_name == "unknown"]
        assert made.data.tags["colour"] == "blue"
        assert made.info.status == "FINISHED"
        assert [point.value for point in store.get_metric_history(made.info.run_id, "loss")] == [0.0]
    output = capsys.readouterr().out
    assert output.count("has taken 1 points of run") == 3


def test_points_kept_for_another_store_stay(toy: Callable[..., Params], tmp_path: Path) -> None:
    toy()
    journal = Outbox(tmp_path / "points.jsonl")
    journal.add({"loss": 1.0}, 1)
    kept = journal.keep("http://user:secret@elsewhere", None, "FINISHED", "toy", {})
    assert "secret" not in kept.read_text()
    tracker = run.Tracker(os.environ["MLFLOW_TRACKING_URI"], "toy", tmp_path / "journal")
    tracker.start(name="run")
    assert tracker.finish() == []
    assert kept.exists()


def test_points_of_a_run_that_was_deleted_are_refused_and_stay(
    toy: Callable[..., Params], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    journal = Outbox(tmp_path / "points.jsonl")
    journal.add({"loss": 1.0}, 1)
    kept = journal.keep(os.environ["MLFLOW_TRACKING_URI"], "0" * 32, "FINISHED", "toy", {})
    tracker = run.Tracker(os.environ["MLFLOW_TRACKING_URI"], "toy", tmp_path / "journal")
    tracker.start(name="run")
    assert tracker.finish() == []
    assert kept.exists()
    assert "refused the points kept in" in capsys.readouterr().out


class Store:
    """Takes note of the points it is sent."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int]] = []

    def log_batch(self, _: str, metrics: list[Metric]) -> None:
        self.points += [(metric.key, metric.step) for metric in metrics]


def test_a_journal_sends_each_point_once_and_goes_on_behind_what_a_kill_cut_off(tmp_path: Path) -> None:
    path, store = tmp_path / "points.jsonl", Store()
    journal = Outbox(path)
    for step in range(2500):
        journal.add({"loss": 0.5}, step)
        if step == 1200:
            journal.send(store, "run")
    assert len(store.points) == 1201
    assert journal.waiting() == 2500 - 1201
    journal.send(store, "run")
    assert store.points == [("loss", step) for step in range(2500)]
    assert journal.waiting() == 0
    journal.close()
    with path.open("a") as file:
        file.write('{"key": "lo')
    resumed, store = Outbox(path), Store()
    resumed.add({"loss": 0.7}, 2499)  # it has that one
    resumed.add({"loss": 0.5}, 2500)
    resumed.send(store, "run")
    assert store.points == [("loss", step) for step in range(2501)]


def test_a_journal_that_is_gone_on_with_takes_its_copies_back(
    toy: Callable[..., Params], tmp_path: Path
) -> None:
    toy()
    journal, other = Outbox(tmp_path / "one.jsonl"), Outbox(tmp_path / "other.jsonl")
    copies = []
    for number, one in enumerate((journal, other)):
        one.add({"loss": 1.0}, number)
        copies.append(one.keep("http://store", None, "FINISHED", f"toy {number}", {}))
    Outbox(tmp_path / "one.jsonl")
    assert [copy.exists() for copy in copies] == [False, True]


def test_what_the_store_refuses_is_named_once_and_not_tried_again(
    toy: Callable[..., Params], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    tracker = run.Tracker(os.environ["MLFLOW_TRACKING_URI"], "toy", tmp_path / "journal")
    tracker.start(name="run")
    tracker.log_artifact(tmp_path / "no such file")
    tracker.log_metrics({"loss": 1.0}, 1)
    assert tracker.finish() == ["artifact no such file"]
    assert capsys.readouterr().out.count("refused artifact no such file") == 1


def open_run(folder: Path, name: str = "run") -> run.Tracker:
    tracker = run.Tracker(os.environ["MLFLOW_TRACKING_URI"], "toy", folder)
    tracker.start(name=name)
    return tracker


def test_a_metric_that_the_store_refuses_costs_itself_only(
    toy: Callable[..., Params], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    tracker = open_run(tmp_path / "journal")
    tracker.log_metrics({"before": 1.0, "x" * 251: 2.0, "a//b": 3.0, "after": 4.0}, 1)
    tracker.log_params({"good": "1", "bad!": "2"})
    missing = tracker.finish()
    assert sorted(missing) == ["a//b", "param bad!", "x" * 251]
    assert tracker.run_id is not None
    stored = client().get_run(tracker.run_id)
    assert stored.data.metrics == {"before": 1.0, "after": 4.0}
    assert stored.data.params == {"good": "1"}
    assert "is not responding" not in capsys.readouterr().out


def test_a_run_and_an_experiment_that_were_deleted_are_said_and_take_nothing_along(
    toy: Callable[..., Params], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    first = open_run(tmp_path / "journal")
    first.log_metrics({"loss": 3.0}, 1)
    first.finish("KILLED")
    assert first.run_id is not None
    store = client()
    store.delete_run(first.run_id)

    resumed = open_run(tmp_path / "journal")
    resumed.set_tags({"colour": "blue"})
    wait_for(lambda: not resumed._waiting, 60)
    resumed.log_metrics({"loss": 2.0}, 2)
    assert resumed.run_id not in (None, first.run_id)
    assert f"run {first.run_id} was deleted" in capsys.readouterr().out
    store.delete_experiment(
        store.get_experiment_by_name("toy").experiment_id
    )  # and its run, while it is open
    assert resumed.finish() == []
    assert resumed.run_id is not None
    moved = store.get_run(resumed.run_id)
    assert [point.value for point in store.get_metric_history(moved.info.run_id, "loss")] == [3.0, 2.0]
    assert moved.data.tags["colour"] == "blue"
    assert store.get_experiment(moved.info.experiment_id).name == "toy (2)"
    output = capsys.readouterr().out
    assert "experiment 'toy' was deleted; the run goes to 'toy (2)'" in output
    assert "is not responding" not in output
    (listed,) = list_runs(os.environ["MLFLOW_TRACKING_URI"])
    assert listed.data == "toy"


def test_a_repository_that_was_moved_has_its_artifacts_and_leaves_the_old_place_alone(
    toy: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy()
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name in ("dvc.yaml", "mlflow.db"):
        (tmp_path / name).rename(old / name)

    def tracked(repository: Path) -> tuple[str, str]:
        monkeypatch.chdir(repository)
        uri = f"sqlite:///{repository / 'mlflow.db'}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = open_run(repository / "journal")
        tracker.log_text("hello", "note.txt")
        assert tracker.finish() == []
        assert tracker.run_id is not None
        shutil.rmtree(repository / "journal")
        return uri, tracker.run_id

    _, before = tracked(old)
    old.rename(new)
    uri, after = tracked(new)
    for number, run_id in enumerate((before, after)):
        path = MlflowClient(uri).download_artifacts(
            run_id, "note.txt", str(tmp_path / "fetched" / str(number))
        )
        assert Path(path).read_text() == "hello"
    assert not old.exists()
    monkeypatch.chdir(tmp_path)
    assert MlflowClient(uri).get_run(after).info.artifact_uri == str(
        new / "mlartifacts" / after / "artifacts"
    )


def test_damaged_lines_and_files_cost_themselves_and_are_named(
    toy: Callable[..., Params], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    path = tmp_path / "points.jsonl"
    good = b'{"key": "a", "value": 1.0, "step": 1, "time": 1}\n'
    path.write_bytes(
        good + b'{"key": "a", "va\n' + bytes(9) + b"\n\xff\n[]\n\n" + good.replace(b'"a"', b'"b"')
    )
    outbox, store = Outbox(path), Store()
    assert "5 damaged lines are left out (line 2, 3, 4, 5, 6)" in capsys.readouterr().out
    outbox.send(store, "run")
    assert store.points == [("a", 1), ("b", 1)]
    assert outbox.waiting() == 0

    kept = outbox_with_a_point(tmp_path / "other").keep(
        os.environ["MLFLOW_TRACKING_URI"], None, "FINISHED", "toy", {"run_name": "kept"}
    )
    kept.with_name("0.jsonl").write_bytes(b"\xff\x00 no header\n")
    kept.with_name("1.jsonl").write_bytes(b"[1, 2]\n")
    kept.with_name("2.jsonl").mkdir()
    assert open_run(tmp_path / "journal").finish() == []
    assert not kept.exists()
    output = capsys.readouterr().out
    assert [f"{n}.jsonl: not a file of points" in output for n in range(3)] == [True] * 3


def outbox_with_a_point(folder: Path) -> Outbox:
    outbox = Outbox(folder / "points.jsonl")
    outbox.add({"loss": 1.0}, 1)
    return outbox


def test_no_credentials_reach_the_store_or_the_terminal(
    toy: Callable[..., Params],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy()
    secret = "s3://alice:SECRET@bucket/raw"
    Path("params.yaml").write_text(
        f"data: toy # the data\nmachine:\n  tracking_uri: {secret}\ntrain: {{lr: 1e-3}}\n"
    )
    tracker = open_run(tmp_path / "journal")
    tracker.log_params({"source": secret})
    tracker.set_tags({"root": secret})
    tracker.log_dataset("toy", "0" * 36, secret, "train")
    tracker.log_text(shareable_params(Path("params.yaml")), "params.yaml")
    assert tracker.finish() == []
    assert tracker.run_id is not None
    stored = client().get_run(tracker.run_id)
    assert stored.data.params["source"] == stored.data.tags["root"] == "s3://***@bucket/raw"
    assert "SECRET" not in str(stored.to_dictionary())
    fetched = client().download_artifacts(tracker.run_id, "params.yaml", str(tmp_path))
    assert Path(fetched).read_text() == "data: toy # the data\ntrain: {lr: 1e-3}\n"
    hurry(monkeypatch, 2.0)
    silent = run.Tracker("http://alice:SECRET@127.0.0.1:9", "toy", tmp_path / "silent")
    silent.start(name="run")
    silent.log_metrics({"loss": 1.0})
    silent.finish()
    silent._thread.join(60)
    output = capsys.readouterr().out
    assert "MLflow at http://***@127.0.0.1:9 is not responding" in output
    assert "SECRET" not in output


@pytest.mark.parametrize(
    "uri", ["file:./mlruns", "mlruns", "/tmp/mlruns", "file:///tmp/a:b@c", "sqlit:///mlflow.db"]
)
def test_a_store_that_mlflow_keeps_no_runs_in_stops_a_training_before_it_begins(
    toy: Callable[..., Params], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = toy()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI: got .*allowed are .*sqlite"):
        train_once(params, OUT, CURVES)
    assert not Path(".work").exists()


def test_names_of_classes_are_distinct_metrics_that_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_metric_name

    classes = [
        "cat",
        "New York",
        "x" * 240,
        "x" * 241,
        "x" * 300,
        "a//b",
        "a/b",
        "a|b",
        "a_b",
        "..",
        ".",
        "/",
        "",
        " ",
    ]
    classes += ["it's", "猫", "été", "\x1b[2J", "\n", "\udcff", "a\\b", "50 %", "a ", "a", "class:b"]
    metrics = [names.metric_name("class_recall", name) for name in classes]
    assert len(set(metrics)) == len(classes)
    for name in metrics:
        _validate_metric_name(name)
    assert metrics[:2] == ["class_recall/cat", "class_recall/New York"]


def test_the_uri_is_absolute_and_the_environment_goes_first(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = toy()
    assert names.tracking_uri(params) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    experiment = tmp_path / ".dvc/tmp/exps/tmpabc"
    experiment.mkdir(parents=True)
    monkeypatch.chdir(experiment)
    assert names.tracking_uri(params) == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_nested_params_are_flattened_by_dots() -> None:
    nested = {"a": {"b": 1}, "c": [{"d": 2}, {"d": 3}], "e": [1, 2]}
    assert names.flatten(nested) == {"a.b": "1", "c.0.d": "2", "c.1.d": "3", "e": "[1, 2]"}


def test_only_a_change_of_the_code_makes_a_run_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    for name in ("code.py", "params.yaml", "dvc.lock", "reports/metrics.json"):
        (tmp_path / name).write_text("1")
    identity = ["-c", "user.name=me", "-c", "user.email=me@here"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    assert names.source_tags()["git.dirty"] == "false"
    for name in ("params.yaml", "dvc.lock", "reports/metrics.json"):
        (tmp_path / name).write_text("2")
    monkeypatch.chdir(tmp_path / "reports")
    assert names.source_tags()["git.dirty"] == "false"
    (tmp_path / "code.py").write_text("2")
    assert names.source_tags()["git.dirty"] == "true"


def test_two_that_open_a_new_store_at_once_both_have_their_run(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    script = (
        "from pathlib import Path; from pipeline.tracking.run import Tracker\n"
        "tracker = Tracker('sqlite:///mlflow.db', 'toy', Path(f'journal-{os.getpid()}'))\n"
        "tracker.start(name='a run')\n"
        "assert tracker.finish() == []\n"
    )
    command = [sys.executable, "-c", "import os; " + script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    for process in both:
        output = process.communicate()[0]
        assert process.returncode == 0, output
        assert "is not responding" not in output
    store = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [one for one in store.search_experiments() if one.name == "toy"]
    assert len(store.search_runs([experiment.experiment_id])) == 2
