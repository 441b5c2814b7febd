"""The training loop: the paper's phases over the shards, at full speed, losing nothing.

Everything random is a function of (seed, step): the data's order, dropout, the initial weights. So the state of a
training is its tensors and a few numbers, and one that is killed anywhere and started again ends with the same
weights, bit for bit on one device.
"""

from __future__ import annotations

import hashlib
import signal
import struct
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from pipeline.checkpoints import states
from pipeline.checkpoints.pretrained import start_from
from pipeline.checkpoints.states import StateFolder
from pipeline.checkpoints.trained import DESCRIPTION, Trained, describe, load_trained, save_trained
from pipeline.core.device import choose_device, choose_precision, peak_memory
from pipeline.core.errors import UserError
from pipeline.core.process import StopSignal
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.loading.open_loader import open_loader
from pipeline.data.loading.prefetch import prefetch
from pipeline.data.shards.manifest import Manifest
from pipeline.models.inputs import normalise, place
from pipeline.params import Params
from pipeline.tasks import task_of
from pipeline.tasks.network import build_network, network_spec
from pipeline.tasks.score import measure
from pipeline.tracking.run import Tracker
from pipeline.train.optimizers import build_optimizer
from pipeline.train.phases import PhaseSteps
from pipeline.train.progress import Progress, progress_bar

LOG_SECONDS = 5.0
"""Between two updates of the loss beside the progress bar."""


STOP_STEPS = 8
"""Between two times that several processes ask one another whether a signal came."""


class Stopped(Exception):
    """The training was asked to stop; its state is saved and the next start goes on from it."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.received = received


class Trainer:
    """One training from its first step, or from where it was left, to its last."""

    def __init__(self, params: Params, manifest: Manifest, folder: Path, work: Path) -> None:
        self.params, self.manifest, self.folder = params, manifest, folder
        self.settings, self.batch_size = params.train, params.train.resolved_batch_size
        device = choose_device(params.machine.device)
        self.amp = choose_precision(params.train.amp, device)
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(mixed_precision=self.amp, cpu=device.type == "cpu")
        self.device = self.accelerator.device
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.task = task_of(manifest)
        self.loss = self.task.loss(self.settings)
        torch.manual_seed(self.settings.seed)
        self.network = place(build_network(params, manifest), self.device)
        if params.pretrained is not None:
            fitted = start_from(params.pretrained, self.network, params.model.head, manifest)
            if self.rank == 0 and not fitted:
                print(f"{params.pretrained} is for another task or other classes: the head starts anew")
        manifest.split("val")
        self.loader = open_loader(params, manifest, folder, self.device, self.rank, self.world_size)
        if self.world_size > 1 and self.device.type == "cuda":
            # Elsewhere each process normalises its part of a batch by that part's own statistics.
            together = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
            self.network = together
        compiled = params.machine.compile == "on" or (
            params.machine.compile == "auto" and self.device.type == "cuda"
        )
        forward = torch.compile(self.network, dynamic=False) if compiled else self.network
        self.model = self.accelerator.prepare_model(forward)
        self.parts = self.settings.accumulate
        self.average = (
            AveragedModel(self.network, multi_avg_fn=_ema(self.settings.ema), use_buffers=True)
            if self.settings.ema
            else None
        )
        self.progress = Progress()
        self.states = StateFolder(work / "states")
        self.best_folder = work / "best"
        # The sum of losses and of targets since the epoch began, and the first step whose loss was not finite.
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.first_bad_step = torch.full((), torch.iinfo(torch.int64).max, device=self.device)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights where one is taken."""
        return self.average.module if self.average is not None else self.network

    def run(self, tracker: Tracker) -> Trained:
        """Train to the end; returns the description of the best network, which lies in ``best_folder``.

        Raises:
            Stopped: a signal came; the state is saved.
            UserError: the loss was NaN or infinite; the last good state is kept.
        """
        self.tracker = tracker
        with StopSignal() as self.stop, self.states:
            tensors = self._restore()
            progress = self.progress
            self.saved_at = self.logged_at = self.counted_at = time.monotonic()
            with progress_bar(
                progress, self.settings.phases, self.loader.steps_per_epoch, self.batch_size, self.rank == 0
            ) as self.bar:
                while progress.phase < len(self.settings.phases):
                    self._run_phase(tensors.pop("optimizer", None))
                    progress.phase += 1
                    progress.phase_first = progress.step
                    progress.epochs_without_better = 0
                if progress.batch > 0:
                    self._validate()
        self.accelerator.wait_for_everyone()
        return Trained.model_validate_json((self.best_folder / DESCRIPTION).read_bytes())

    def _run_phase(self, optimizer_state: dict[str, Tensor] | None) -> None:
        progress, settings = self.progress, self.settings
        phase = settings.phases[progress.phase]
        span = PhaseSteps.begin(phase, progress.phase_first, self.loader.steps_per_epoch, self.batch_size)
        self.span = span
        if phase.reload_best and progress.step == span.first and progress.best is not None:
            best = load_trained(self.best_folder)
            self.network.load_state_dict(best.network.state_dict())
        optimizer = self.accelerator.prepare_optimizer(
            build_optimizer(phase, self.network, settings.decay_all)
        )
        if optimizer_state is not None:
            states.restore_optimizer(optimizer.optimizer, optimizer_state)
        self.optimizer = optimizer
        while True:
            if progress.batch == self.loader.steps_per_epoch:
                self._validate()
                progress.epoch += 1
                progress.batch = 0
                self._save()
            if progress.step >= span.last or progress.epochs_without_better >= (
                phase.patience or sys.maxsize
            ):
                return
            self.model.train()
            self.counted_at = time.monotonic()
            for batch in prefetch(self.loader.epoch(progress.epoch, progress.batch), self.device):
                self._step(batch, span.learning_rate(progress.step))
                progress.step += 1
                progress.batch += 1
                self._between_steps()
                if progress.step == span.last:
                    break

    def _step(self, batch: Batch, learning_rate: float) -> None:
        """One step of the optimiser. Nothing in it waits for the device."""
        torch.manual_seed(step_seed(self.settings.seed, self.rank, self.progress.step))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        image, target = batch.image, batch.target.long()
        count = self.task.count(target).float()
        # Gradients are averaged over processes, so each rank's part of the mean is scaled up by their number.
        scale = self.world_size / self.accelerator.reduce(count, reduction="sum").clamp(min=1)
        total = torch.zeros((), device=self.device)
        parts = list(zip(image.tensor_split(self.parts), target.tensor_split(self.parts), strict=True))
        for number, (part, part_target) in enumerate(parts):
            with self._synchronised(number == len(parts) - 1):
                logits = self.model(normalise(part, self.manifest.mean, self.manifest.std))
                loss = self.loss(logits, part_target)
                self.accelerator.backward(loss * scale)
            total += loss.detach()
        if self.settings.clip_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.sums += torch.stack([total, count])
        bad = torch.where(torch.isfinite(total), self.first_bad_step, self.progress.step)
        self.first_bad_step = torch.minimum(self.first_bad_step, bad)

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between processes once a step, with its last part."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def _between_steps(self) -> None:
        """What need not happen at every step: progress, a checkpoint when one is due, a signal."""
        self.bar.update(self.batch_size)
        now = time.monotonic()
        if now - self.logged_at > LOG_SECONDS:
            self.logged_at = now
            self._check_finite()
            self.bar.set_postfix(epoch=self.progress.epoch, loss=f"{self._mean_loss():.4f}")
        if self._asked_to_stop():
            self._save()
            raise Stopped(self.stop.received or signal.SIGTERM)
        if now - self.saved_at > self.params.machine.checkpoint_seconds:
            self._save()

    def _asked_to_stop(self) -> bool:
        """Whether a signal came to any process; all of them learn of it at the same step."""
        if self.world_size == 1:
            return self.stop.received is not None
        if self.progress.step % STOP_STEPS > 0:
            return False
        asked = torch.tensor(float(self.stop.received is not None), device=self.device)
        return bool(self.accelerator.reduce(asked, reduction="sum") > 0)

    def _mean_loss(self) -> float:
        return float(self.sums[0] / self.sums[1].clamp(min=1))

    def _check_finite(self) -> None:
        step = int(self.first_bad_step)
        if step < torch.iinfo(torch.int64).max:
            raise UserError(
                f"the loss was not finite at step {step} (epoch {self.progress.epoch}); the last good state is kept in "
                f"{self.states.folder.parent}; lower train.phases' lr, set train.clip_grad_norm, or train.amp: off"
            )

    def _validate(self) -> None:
        """End an epoch: measure the validation split, keep the network if it is the best, log the figures."""
        self._check_finite()
        self._count_seconds()
        progress = self.progress
        network = self.evaluated.eval()
        if self.world_size > 1:
            # Each process has batch statistics of its own; the first one's are validated, and kept.
            for buffer in network.buffers():
                buffer.copy_(broadcast(buffer))
        batches = evaluation_batches(
            self.folder, self.manifest, "val", self.batch_size, self.rank, self.world_size
        )
        with self.accelerator.autocast():
            metrics, mean_loss = measure(
                network,
                batches,
                self.manifest,
                self.loss,
                self.device,
                partial(self.accelerator.reduce, reduction="sum"),
            )
        figures = metrics.compute()
        self.sums = self.accelerator.reduce(self.sums, reduction="sum")
        name, gigabytes = peak_memory(self.device)
        row = {
            "train/loss": self._mean_loss(),
            "val/loss": mean_loss.compute(),
            **{f"val/{key}": value for key, value in figures.items()},
            "learning_rate": self.span.learning_rate(progress.step - 1),
            "train/images_per_second": self.loader.samples_in(progress.batch) / progress.seconds,
            name: gigabytes,
        }
        value = figures[self.task.metric]
        better = progress.judge(value, row["val/loss"])
        if better:
            self._keep_best(metrics.decision())
        progress.curves.append({"epoch": progress.epoch + 1, "step": progress.step, **row})
        self.tracker.log_metrics({**row, "epoch": progress.epoch + 1}, progress.step)
        if self.rank == 0:
            tqdm.write(
                f"epoch {progress.epoch + 1:3d}  train/loss {row['train/loss']:.4f}  val/loss {row['val/loss']:.4f}  "
                f"val/{self.task.metric} {value:.4f}{' *' if better else '  '}  "
                f"{row['train/images_per_second']:,.1f} img/s",
                file=sys.stderr,
            )
        self.sums = torch.zeros_like(self.sums)
        progress.seconds, self.counted_at = 0.0, time.monotonic()

    def _count_seconds(self) -> None:
        """Add the time since the last call to the epoch's, which goes on over interruptions."""
        now = time.monotonic()
        self.progress.seconds += now - self.counted_at
        self.counted_at = now

    def _keep_best(self, decision: dict[str, list[float]]) -> None:
        if self.rank == 0:
            progress = self.progress
            assert progress.best is not None
            trained = describe(
                self.manifest,
                parameters=sum(parameter.numel() for parameter in self.network.parameters()),
                epoch=progress.best_epoch,
                step=progress.best_step,
                metric=f"val/{self.task.metric}",
                value=progress.best,
                run_id=self.tracker.run_id,
                decision=decision,
            )
            spec = network_spec(self.params, self.manifest)
            save_trained(self.evaluated, self.params.model, spec, trained, self.best_folder)

    def _save(self) -> None:
        """Save the state, unless the loss went wrong since the last one was saved."""
        self._check_finite()
        self._count_seconds()
        self.saved_at = time.monotonic()
        if self.rank > 0:
            return
        tensors = states.state_tensors(
            self.network, self.optimizer.optimizer, self.average, self.accelerator.scaler
        )
        tensors["sums"] = {"sums": self.sums}
        self.states.save(self.progress.step, tensors, asdict(self.progress))

    def _restore(self) -> dict[str, dict[str, Tensor]]:
        """Go on from the newest whole checkpoint, if there is one; returns its tensors."""
        if (saved := self.states.latest()) is None:
            return {}
        tensors, state = saved
        self.progress = Progress(**state)
        states.restore_network(tensors, self.network, self.average, self.accelerator.scaler)
        if self.rank == 0:  # the first process's own part; what the others had summed up is not saved
            self.sums = tensors["sums"]["sums"].to(self.device)
            print(f"going on from step {self.progress.step} (epoch {self.progress.epoch + 1})")
        return tensors


def _ema(decay: float) -> Any:
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def step_seed(seed: int, rank: int, step: int) -> int:
    """The seed of all randomness in one step on one process (63 bits): mixed, so that near steps differ widely."""
    digest = hashlib.blake2b(struct.pack("<QQQ", seed, rank, step), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
