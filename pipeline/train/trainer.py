"""The training loop: the paper's phases over the shards, at full speed, losing nothing.

Everything random is a function of (seed, step): the data's order, dropout, the initial weights. So the state of a
training is its tensors and a few numbers. One that is killed anywhere and resumed ends with the same weights: bit for
bit on a CPU, and on a GPU with ``machine.deterministic``; without it a GPU's kernels may add in another order. Among
several processes that holds where as many resume it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from torch import Tensor, nn

from pipeline.checkpoints import states
from pipeline.checkpoints.states import StateFolder
from pipeline.checkpoints.trained import DESCRIPTION, Trained, describe, load_trained, save_trained
from pipeline.core.device import peak_memory, reset_peak_memory
from pipeline.core.errors import UserError
from pipeline.data.loading.prefetch import prefetch
from pipeline.profiling.optimizers import build_optimizer
from pipeline.tracking.base import Tracking
from pipeline.train.cadence import Cadence, Timer
from pipeline.train.observers.base import Observer, Observers
from pipeline.train.observers.display import Display
from pipeline.train.phases import PhaseSteps
from pipeline.train.state import Progress
from pipeline.train.training import Training

StateTensors = dict[str, dict[str, Tensor]]
"""The tensors of a saved state, by group and name."""


class Stopped(Exception):
    """The training was asked to stop; its state is saved, and the next start resumes it."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.received = received


class Trainer:
    """Runs one training from its first step, or from its last saved state, to its end."""

    def __init__(self, training: Training, tracker: Tracking, observers: Sequence[Observer] = ()) -> None:
        self.training = training
        self.tracker = tracker
        self.processes = training.processes
        self.settings = training.params.train
        self.state = training.state
        self.states = StateFolder(training.work / "states")
        self.best_folder = training.work / "best"
        self.cadence = Cadence(training.accelerator, training.params.machine.checkpoint_seconds)
        self.timer = Timer()
        display = Display(
            self.settings.phases, training.loader.steps_per_epoch, training.batch_size, training.metric
        )
        self.events = Observers([*([display] if self.processes.is_first else []), *observers])
        self.span = self._phase_steps()

    @property
    def progress(self) -> Progress:
        """The point that the training has reached."""
        return self.state.progress

    def run(self) -> Trained:
        """Train to the end; return the description of the best network, which lies in ``best_folder``.

        Raises:
            Stopped: a signal came; the state is saved.
            UserError: a loss or weights were NaN or infinite; the last good state is kept.
        """
        reset_peak_memory(self.training.device)
        with self.cadence, self.states:
            optimizer_state = self._restore()
            try:
                self.events.on_start(self.state)
                while self.progress.phase < len(self.settings.phases):
                    self._begin_phase(optimizer_state)
                    self._run_phase()
                    self.progress.next_phase()
                    optimizer_state = None
                if self.progress.batch > 0:
                    self._validate()
            finally:
                self.events.on_end()
        description = self.processes.from_first((self.best_folder / DESCRIPTION).read_bytes)
        return Trained.model_validate_json(description)

    def _phase_steps(self) -> PhaseSteps:
        progress = self.progress
        phase = self.settings.phases[progress.phase]
        return PhaseSteps.begin(
            phase, progress.phase_first, self.training.loader.steps_per_epoch, self.training.batch_size
        )

    def _begin_phase(self, optimizer_state: dict[str, Tensor] | None) -> None:
        """Build the phase's optimiser, with ``optimizer_state`` where it is resumed; see to equal weights everywhere.

        The optimiser before it is freed.
        """
        state, progress, span = self.state, self.progress, self._phase_steps()
        self.span = span
        if span.phase.reload_best and progress.step == span.first and progress.best is not None:
            best = self.processes.tensors_from_first(
                lambda: load_trained(self.best_folder).network.state_dict()
            )
            state.network.load_state_dict(best)
        head = self.training.params.model.head
        state.optimizer = build_optimizer(span.phase, state.network, self.settings.decay_all, head)
        if optimizer_state is not None:
            states.restore_optimizer(state.optimizer, optimizer_state)
        if self.processes.world_size > 1:
            self.processes.check_same({"step": progress.step, "weights": state.digest()})

    def _run_phase(self) -> None:
        """Train from the step reached to the phase's last, or until its patience is at an end."""
        progress, span, loader = self.progress, self.span, self.training.loader
        patience = span.phase.patience or sys.maxsize
        while True:
            if progress.batch == loader.steps_per_epoch:
                self._validate()
                progress.next_epoch()
                self._save()
            if progress.step >= span.last or progress.epochs_without_better >= patience:
                return
            self.training.step.model.train()
            self.timer.restart()
            batches = loader.epoch(progress.epoch, progress.batch)
            for batch in prefetch(batches, self.training.device):
                self.events.before_step(self.state, batch)
                self.training.step(batch, span.learning_rate(progress.step))
                progress.step += 1
                progress.batch += 1
                self.events.after_step(self.state)
                self._between_steps()
                if progress.step == span.last:
                    break

    def _between_steps(self) -> None:
        """Do what is due: log, stop for a signal, save."""
        if self.cadence.log_due():
            self._refuse(self.state.loss_problem())
            self.events.on_log(self.state)
        if (received := self.cadence.stop_requested(self.progress.step)) is not None:
            self._save()
            raise Stopped(received)
        if self.cadence.save_due():
            self._save()

    def _refuse(self, problem: str | None) -> None:
        """Raise `UserError` where there is a ``problem`` with the state: it can only get worse."""
        if problem is not None:
            kept = f"the last good state is kept in {self.training.work}"
            state = "none was saved before" if self.states.is_empty() else kept
            raise UserError(
                f"{problem} (epoch {self.progress.epoch}); {state}; "
                "lower train.phases' lr, set train.clip_grad_norm, or train.amp: off"
            )

    def _validate(self) -> None:
        """End an epoch: measure the validation split, keep the network if it is the best, log the metrics."""
        state, progress, training = self.state, self.progress, self.training
        self.events.before_validation(state)
        self._count_seconds()
        state.reduce(training.accelerator)
        self._refuse(state.problem())
        evaluated = state.evaluated
        if training.precise is not None:
            evaluated = training.precise.of(evaluated, progress.epoch)
        validated = training.validation(evaluated)
        memory, gigabytes = peak_memory(training.device)
        row = {
            "train/loss": state.mean_loss(),
            **validated.values,
            "learning_rate": self.span.learning_rate(progress.step - 1),
            "train/images_per_second": training.loader.samples_in(progress.batch) / progress.seconds,
            memory: gigabytes,
        }
        better = progress.judge(row[training.metric], row["val/loss"])
        if better and self.processes.is_first:
            self._keep_best(evaluated, validated.decision)
        progress.curves.append({"epoch": progress.epoch + 1, "step": progress.step, **row})
        self.tracker.log_metrics({**row, "epoch": progress.epoch + 1}, progress.step)
        self.events.after_validation(state, row, better)
        state.losses.zero_()
        progress.seconds = 0.0
        self.timer.restart()

    def _count_seconds(self) -> None:
        """Add the time since the last call to the epoch's, which continues over interruptions."""
        self.progress.seconds += self.timer.restart()

    def _keep_best(self, evaluated: nn.Module, decision: dict[str, list[float]]) -> None:
        progress, training = self.progress, self.training
        assert progress.best is not None
        trained = describe(
            training.manifest,
            size=training.spec.size,
            parameters=sum(parameter.numel() for parameter in self.state.network.parameters()),
            epoch=progress.best_epoch,
            step=progress.best_step,
            metric=training.metric,
            value=progress.best,
            run_id=self.tracker.run_id,
            batch_size=training.batch_size,
            decision=decision,
            precise_bn=training.precise.batches if training.precise is not None else 0,
        )
        save_trained(evaluated, training.params.model, training.spec, trained, self.best_folder)

    def _save(self) -> None:
        """Save the state, unless it has gone bad since the last one was saved."""
        self._refuse(self.state.problem())
        self._count_seconds()
        self.cadence.saved()
        if self.processes.is_first:
            self.states.save(self.progress.step, self.state.tensors(), asdict(self.progress))
            self.events.after_save(self.state)

    def _restore(self) -> dict[str, Tensor] | None:
        """Resume the newest whole state, if there is one: the first process reads it, the others receive it.

        Returns the tensors of its optimiser.
        """
        newest: StateTensors = {}

        def read() -> Progress | None:
            if (saved := self.states.latest()) is None:
                return None
            newest.update(saved[0])
            return Progress(**saved[1])

        progress = self.processes.from_first(read)
        if progress is None:
            return None
        groups = self.processes.from_first(lambda: list(newest))
        tensors = {
            name: self.processes.tensors_from_first(partial(newest.__getitem__, name)) for name in groups
        }
        self.state.restore(tensors, progress, self.processes.is_first)
        if self.processes.is_first:
            print(f"resuming at step {progress.step} (epoch {progress.epoch + 1})")
        return tensors["optimizer"]
