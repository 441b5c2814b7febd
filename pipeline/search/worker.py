"""A search from its settings to its page; as many processes as wanted run the same and share the trials."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import Trial

from pipeline.core.device import choose_device
from pipeline.core.errors import UserError
from pipeline.core.hashing import configuration_hash, file_sha256
from pipeline.core.paths import repository_root, work_folder
from pipeline.core.yaml_file import read_yaml
from pipeline.data.shards.folds import one_fold
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.models import check_network
from pipeline.params import Params, SearchParams, load_params, parse_params
from pipeline.search.objectives import Cost, count_cost, percent
from pipeline.search.space import Space, build_space, shown
from pipeline.search.study import Study, Tried, drawn_values
from pipeline.search.target import Target
from pipeline.search.trial import Progress, forget_trial, is_behind, train_trial
from pipeline.tasks import task_of
from pipeline.tasks.network import check_statistics, network_spec
from pipeline.tracking import names
from pipeline.tracking.parent import start_parent
from pipeline.tracking.run import Tracker

MOST_KNOWN = 100
"""Draws in a row whose result was known before, after which there is nothing new in the space."""
MOST_FAILURES = 3
"""First trials that may all fail before the search gives up: then the fault is not in what was drawn."""


@dataclass(frozen=True)
class Search:
    """One search: what it varies, on what data, in which study."""

    settings: SearchParams
    params: Params
    manifest: Manifest
    space: Space
    study: Study
    target: Target | None
    device: torch.device

    @property
    def metric(self) -> str:
        """The accuracy: the task's metric on val."""
        return task_of(self.manifest).metric


def open_search(path: Path, target: str | None = None, minimise: str = "parameters", **limits: Any) -> Search:
    """Read the search that ``path``, a params.yaml, describes; open its study.

    Args:
        target: as in ``top1=0.99``: find the network with least of ``minimise`` that reaches it.
        limits: trials, epochs and hours in place of those of ``path``, where they are not None.

    Raises:
        UserError: something in ``path`` cannot be searched, or the storage cannot be reached.
    """
    params = load_params(path)
    settings = _settings(path, params).model_copy(
        update={name: value for name, value in limits.items() if value is not None}
    )
    folder = shards_folder(params.data, params.size)
    manifest = one_fold(read_manifest(folder), params.train.fold, "search")
    manifest.check_trainable()
    wanted = None if target is None else Target.parse(target, minimise, task_of(manifest).metric)

    def check(values: Mapping[str, Any]) -> None:
        checked = parse_params(values, str(path))
        spec = network_spec(checked, manifest)
        check_network(checked.model, spec)
        check_statistics(checked, spec)

    space = build_space(settings, read_yaml(path), check)
    names.tracking_uri(params)  # a store that MLflow cannot use is refused before any work
    study = _open_study(params, settings, wanted, file_sha256(folder / FILE_NAME))
    return Search(settings, params, manifest, space, study, wanted, choose_device(params.machine.device))


def _settings(path: Path, params: Params) -> SearchParams:
    if params.search is None:
        raise UserError(
            f"{path}: has no search: section; add one, as in search: {{space: {{model.dim: {{low: 4, high: 16}}}}}} "
            "(docs/experiments.md)"
        )
    if params.train.repeats != 1:
        raise UserError(f"train.repeats: got {params.train.repeats}; a trial is one training: set it to 1")
    return params.search


def _open_study(params: Params, settings: SearchParams, target: Target | None, digest: str) -> Study:
    """Open the study of this search: its name tells all that decides what its trials mean, but for the code."""
    objectives = [target.minimise] if target else list(settings.objectives)
    varied = settings.model_dump(mode="json", include={"space", "seed", "prune"})
    judged = target and asdict(target)
    hashed = configuration_hash(varied, objectives, judged, params.model, params.train, digest)
    name = f"{params.data}-{hashed}"
    storage = os.environ.get("STUDY_STORAGE") or params.machine.study_storage
    about = {"data": params.data, "data.hash": digest[:32], "target": json.dumps(judged)}
    address = storage or f"sqlite:///{repository_root() / 'studies.db'}"
    return Study(address, name, objectives, settings.seed, about, work_folder("search", name))


def run_search(search: Search) -> None:
    """Run trials until the search's limits are reached; other processes may do the same at the same time.

    Raises:
        UserError: the first trials all failed.
        SystemExit: a signal came; the trial under way is saved, and the next call resumes it.
    """
    _open_parent(search)
    known = 0
    while known < MOST_KNOWN:
        with search.study.claim(lambda tried: _room_left(search.settings, tried)) as trial:
            if trial is None:
                return
            known = 0 if _run_trial(search, trial) else known + 1
        _refuse_failures(search.study.tried())
    print(f"the last {MOST_KNOWN} draws were all known before: nothing new is left in the space", flush=True)


def _room_left(settings: SearchParams, tried: Sequence[Tried]) -> bool:
    trained = [one for one in tried if one.was_trained]
    return (
        (settings.trials is None or len(trained) < settings.trials)
        and (settings.epochs is None or sum(len(one.curve) for one in trained) < settings.epochs)
        and (settings.hours is None or sum(one.seconds for one in trained) < 3600 * settings.hours)
    )


def _refuse_failures(tried: Sequence[Tried]) -> None:
    ended = [one for one in tried if one.was_trained and one.state != "running"]
    if len(ended) >= MOST_FAILURES and all(one.state == "fail" for one in ended):
        raise UserError(f"the first {len(ended)} trials all failed, the last with: {ended[-1].note}")


def _run_trial(search: Search, trial: Trial) -> bool:
    """Bring ``trial`` to its end; return whether it was trained."""
    study, number = search.study, trial.number
    drawn = search.space.draw(trial)
    others = [one for one in study.tried() if one.number != number]
    if (same := _same(trial, others)) is not None:
        _tell_same(search, trial, same)
        return False
    try:
        params = parse_params(search.space.values(drawn), f"trial {number}")
        cost = count_cost(params, search.manifest, search.device)
    except UserError as error:
        trial.set_user_attr("note", str(error))
        study.tell(trial, "fail")
        return True
    trial.set_user_attr("cost", asdict(cost))
    if (smaller := _reached_with_no_more(search.target, cost, others)) is not None:
        trial.set_user_attr("note", f"not smaller than trial {smaller}, which reached the target")
        study.tell(trial, "pruned")
        return False
    print(f"trial {number}: {_words(drawn)}; {cost.parameters:,} parameters", flush=True)
    folder = study.folder / f"trial-{number}"
    progress = Progress(
        f"val/{search.metric}",
        trial.set_user_attr,
        trial.user_attrs,
        lambda curve, rate: (
            search.settings.prune and is_behind(curve, rate, cost, study.tried(), study.objectives)
        ),
    )
    torch._dynamo.reset()  # what was compiled for the networks before is of no use
    state, trained, why = train_trial(params, folder, progress, _tags(search, number))
    if trained is not None:
        trial.set_user_attr("mlflow_run", trained.run_id)
    trial.set_user_attr("note", why)
    _tell(search, trial, state)
    forget_trial(folder)
    return True


def _tell(search: Search, trial: Trial, state: str) -> None:
    """End ``trial`` with the figures that its notes give."""
    tried = next(one for one in search.study.tried() if one.number == trial.number)
    if search.target is not None and tried.best is not None:
        trial.set_constraint("target", search.target.value - tried.best)
    figures = [tried.figure(name) for name in search.study.objectives]
    values = [figure for figure in figures if figure is not None] if state == "complete" else None
    search.study.tell(trial, state, values)
    said = [f"trial {trial.number}:", state, tried.note, search.metric, percent(tried.best)]
    print(" ".join(filter(None, said)), flush=True)


def _same(trial: Trial, others: Sequence[Tried]) -> Tried | None:
    """Return the first trial that drew the same and was trained, or is being trained."""
    mine = drawn_values(trial.params)
    return next((one for one in others if one.drawn == mine and one.was_trained), None)


def _tell_same(search: Search, trial: Trial, same: Tried) -> None:
    trial.set_user_attr("same_as", same.number)
    if same.cost is not None:
        trial.set_user_attr("cost", asdict(same.cost))
    if same.state != "complete":
        search.study.tell(trial, "fail" if same.state == "fail" else "pruned")
        return
    trial.set_user_attr("curve", {str(epoch): value for epoch, value in enumerate(same.curve)})
    trial.set_user_attr("rate", same.rate)
    _tell(search, trial, "complete")


def _reached_with_no_more(target: Target | None, cost: Cost, others: Sequence[Tried]) -> int | None:
    """Return the number of a trial that reached ``target`` at no higher cost."""
    if target is None:
        return None
    mine = getattr(cost, target.minimise)
    reached = (one for one in others if target.is_reached_by(one) and one.cost is not None)
    return next((one.number for one in reached if getattr(one.cost, target.minimise) <= mine), None)


def _words(drawn: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {shown(value)}" for key, value in drawn.items())


def _tags(search: Search, number: int) -> dict[str, str]:
    return {
        "search.study": search.study.name,
        "search.trial": str(number),
        **names.child_of(search.study.run_id),
    }


def tracker_of(search: Search) -> Tracker:
    """Return what writes to the run that the trials' runs belong to."""
    return Tracker(names.tracking_uri(search.params), search.params.data, search.study.folder / "mlflow")


def _open_parent(search: Search) -> None:
    """Start the study's run in MLflow, once for all processes."""
    with search.study.alone():
        if search.study.run_id is not None:
            return
        params = {"search": search.settings.model_dump(mode="json")}
        search.study.run_id = start_parent(tracker_of(search), f"search {search.study.name}", params)
