"""Trainings in several real processes under torchrun: ``launch`` starts them, and what they then run.

In each process ``python -m tests.pipeline.train.launched SCENARIO FOLDER`` runs one of `SCENARIOS`, which leaves what
it saw as files in the folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.checkpoints.states import StateFolder
from pipeline.core import source_code
from pipeline.core.errors import UserError
from pipeline.core.process import run_stage
from pipeline.data.loading import open_loader
from pipeline.data.loading.batch import Batch
from pipeline.params import Params, load_params
from pipeline.train import trainer
from pipeline.train.experiment import train, train_once
from pipeline.train.observers.base import Observer
from pipeline.train.state import TrainingState
from tests import ROOT
from tests.pipeline.interrupted import CutOff, Interrupted

OUT, CURVES = Path("checkpoints/best"), Path("reports/curves.csv")
SMALL_WINDOW = 20 * 8 * 12 * 3
"""Bytes of a window that holds one shard of the toy."""


def launch(
    params: Params, processes: int = 2, scenario: tuple[str, Path] | None = None
) -> subprocess.Popen[str]:
    """Start the training stage, or a scenario with its folder, in that many processes."""
    Path("params.yaml").write_text(params.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    program = ["stages.train"] if scenario is None else [__name__, *map(str, scenario)]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    return subprocess.Popen(
        [*command, "-m", *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )


def rank() -> str:
    return os.environ.get("RANK", "one")


class SeenImages(Observer):
    """Writes ``seen-RANK.csv``: the step and the digest of every image that this process is given."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"seen-{rank()}.csv"

    def before_step(self, state: TrainingState, batch: Batch) -> None:
        with self.path.open("a") as file:
            for image in batch.image:
                digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
                file.write(f"{state.progress.step},{digest}\n")


class SeenWeights(Observer):
    """Writes ``weights-RANK.csv``: the step and the digest of all weights, as it starts and at each epoch's end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"weights-{rank()}.csv"

    def on_start(self, state: TrainingState) -> None:
        self._write(state)

    def after_validation(self, state: TrainingState, row: Mapping[str, float], better: bool) -> None:  # noqa: ARG002
        self._write(state)

    def _write(self, state: TrainingState) -> None:
        with self.path.open("a") as file:
            file.write(f"{state.progress.step},{state.digest()}\n")


def stream(folder: Path) -> None:
    """Train in windows of a shard each, and write what each step is given."""
    open_loader.WINDOW_BYTES = SMALL_WINDOW
    train(load_params(), OUT, CURVES, [SeenImages(folder)])


def resume(folder: Path) -> None:
    """Train, cut off in the second phase, and again; only the first process may read what is on the disk."""
    if rank() != "0":
        StateFolder.latest = _refuse  # type: ignore[method-assign, assignment]
        trainer.load_trained = _refuse  # type: ignore[attr-defined, assignment]
    seen = SeenWeights(folder)
    try:
        train(
            load_params(), OUT, CURVES, [seen, CutOff("before_step", lambda state: state.progress.step == 10)]
        )
    except Interrupted:
        train(load_params(), OUT, CURVES, [seen])


def differ(folder: Path) -> None:
    """Try to train with the shards out of reach of the second process, then with other code there."""
    home = Path.cwd()
    if rank() == "1":
        (folder / "empty").mkdir()
        (folder / "empty/dvc.yaml").touch()
        os.chdir(folder / "empty")
    _try(folder)
    os.chdir(home)
    if rank() == "1":
        source_code.ROOT = folder / "empty"
    _try(folder)


def _try(folder: Path) -> None:
    try:
        train_once(load_params(folder / "params.yaml"), OUT, CURVES)
    except UserError as error:
        with (folder / f"errors-{rank()}.txt").open("a") as file:
            file.write(f"{error}\n")


def _refuse(*_: object) -> None:
    raise AssertionError("only the first process reads this")


SCENARIOS: dict[str, Callable[[Path], None]] = {"stream": stream, "resume": resume, "differ": differ}

if __name__ == "__main__":
    run_stage(lambda: SCENARIOS[sys.argv[1]](Path(sys.argv[2])))
