"""The sections of ``params.yaml`` and their keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.core.errors import did_you_mean
from pipeline.data.shards.layout import Encoding, Filter, Geometry

PositiveInt = Annotated[int, Field(gt=0)]
Size = tuple[PositiveInt, PositiveInt]


def _name_that_dvc_takes(name: str) -> str:
    # DVC splits the name of a param at dots, and a command line at spaces; it is a folder's name too.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        raise ValueError("no name for a dataset; allowed: letters, digits, _ and -, at most 100; rename it")
    return name


DatasetName = Annotated[str, AfterValidator(_name_that_dvc_takes)]


class Section(BaseModel):
    """A part of ``params.yaml``: unknown keys and wrong types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class DatasetParams(Section):
    """How one dataset is read and prepared. All of it changes the shards."""

    reader: str
    """The raw layout, one of `pipeline.data.readers.READERS`."""
    source: str | None = None
    """Where the raw files come from when the root is missing: an embedded dataset or a download."""
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)]
    """Sizes (height, width) in pixels to write, all in one pass over the raw files."""
    channels: Literal[1, 3] = 3
    """1 stores grey images (H, W, 1), 3 stores RGB."""
    filter: Filter = "box"
    """Resize filter for images; masks are always nearest."""
    geometry: Geometry = "squash"
    """Squash to the size, or crop the centre to its aspect ratio first."""
    encoding: Encoding = "raw"
    """How images lie in the shards; raw and png are lossless, masks always are."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Quality of jpeg and webp."""
    samples_per_shard: PositiveInt = 4096
    """Samples in a shard at most, most often between half of that and all of it. Which shard a sample lies in follows
    from its name, so that one more sample changes no other shard."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each class of train to cut off as val where the raw files have no val split (fixed choice).
    At 0 the official held-out split is called val, whatever its publishers call it."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Parts of equal size that train and val together are cut into, each class alike, for cross-validation: see
    ``train.fold``. A test split stays as it is."""
    max_corrupt: Annotated[int, Field(ge=0)] = 0
    """How many unreadable samples may be left out before preparing fails."""
    options: dict[str, str | int | float | bool | list[Any] | dict[str, list[Any]]] = {}
    """What only this reader needs (see the reader)."""

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        if self.folds is not None and self.val_fraction:
            raise ValueError("has folds and val_fraction; leave one out: each fold is val in its turn")
        return self


class Duration(Section):
    """A length of training: exactly one of epochs, steps, samples."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    """Length in passes over the train split; exactly one of epochs, steps, samples is given."""
    steps: PositiveInt | None = None
    """Length in batches."""
    samples: PositiveInt | None = None
    """Length in samples."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.epochs, self.steps, self.samples)) != 1:
            raise ValueError("needs exactly one of epochs, steps, samples")
        return self


class Phase(Duration):
    """One optimiser from its first step to its last. The paper's are AdamW, then SGD for 20 epochs."""

    optimizer: Literal["adamw", "sgd"]
    """AdamW, or SGD with momentum."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate; the peak of the schedule."""
    backbone_lr: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the learning rate of all weights but the head's, for a network that starts from trained weights; with 0
    they stay as they are, while batch norm's statistics go on."""
    schedule: Literal["constant", "cosine", "linear", "onecycle"] = "constant"
    """Course of the learning rate after the warm-up; onecycle warms up for the first 30 % by itself."""
    warmup: Duration | None = None
    """Linear rise of the learning rate from 0 at the start of the phase."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """0.01 for adamw, 0 for sgd when null (paper section 4.3)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """adamw: decay of the averages of gradients and of their squares."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """adamw: added to the root of the average square."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """sgd: share of the last update in the next."""
    patience: PositiveInt | None = None
    """End the phase after so many epochs without a better validation."""
    reload_best: bool = False
    """Start the phase from the best weights so far."""

    @field_validator("optimizer", mode="before")
    @classmethod
    def _known(cls, name: Any) -> Any:
        if name not in ("adamw", "sgd"):
            raise ValueError(
                f"no such optimiser{did_you_mean(str(name), ('adamw', 'sgd'))}, allowed: adamw, sgd"
            )
        return name


class MixParams(Section):
    """Mixing pairs of images and their classes; of both, each part of a batch draws one."""

    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Blend pairs; the share of each is drawn from Beta(mixup, mixup). 0 = never (Zhang et al. 2018)."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Paste a rectangle of one image into another, its area drawn likewise. 0 = never (Yun et al. 2019)."""

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not (self.mixup or self.cutmix):
            raise ValueError("needs mixup or cutmix above 0; leave mix out for neither")
        return self


class TrainParams(Section):
    """How the network is trained. All of it changes the result."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    """Optimisers, one after another (keys below)."""
    batch_size: int | Literal["auto"] = 64
    """Samples in a step, over all processes. auto is the largest that fits the memory and the split, a power of two for
    each process: tried on a GPU; reckoned on a CPU, and 256 at the most, as more keep it no busier. It is found once,
    before the training, which then keeps it, wherever it is resumed. The learning rate does not follow it."""
    pretrained: str | None = None
    """Folder of a trained network whose weights this training starts from, as ``checkpoints/best`` is one (copy that:
    DVC clears it before each training); random weights when null. Where task or classes differ, the head starts anew.
    DVC sees the folder's name alone: give other weights another name."""
    seed: Annotated[int, Field(ge=0)] = 0
    """All randomness is a function of it and of the step."""
    repeats: PositiveInt = 1
    """Trainings with seeds ``seed``, ``seed + 1``, ...: nested runs, of which the best network is kept."""
    fold: Annotated[int, Field(ge=0)] | Literal["all"] | None = None
    """Which of ``datasets.NAME.folds`` is val, from 0; train is the others. all trains once for each: nested runs,
    their mean and standard deviation; the best network is kept."""
    size: Size | None = None
    """Which of the dataset's sizes (height, width) to train on; the first when null."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision over the whole forward pass; auto is bf16 where the device has it, else fp16 on CUDA."""
    accumulate: PositiveInt = 1
    """Parts that each process's share of a batch is split into, one after another, to save memory."""
    memory: Literal["default", "lean"] = "default"
    """lean keeps fewer activations and computes the cheap ones again."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Classification only."""
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    """Segmentation only; 0 is cross-entropy. The paper does not give it, the authors' code has 2."""
    dice: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the Dice loss beside the focal loss: how far each image's masks overlap, all classes in it alike, the
    rare ones too. Segmentation only; 0 = none (as the paper)."""
    class_weight_power: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Weigh the loss of each sample or pixel by (frequency of its class in train) ** -power, so that the weights' mean
    is 1: 0 weighs all alike, 1 all classes alike. Not for multilabel."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """shuffled takes every sample once per epoch; balanced draws all classes alike in epochs as long: samples of rare
    classes several times, of frequent ones a part. Classification only."""
    mix: MixParams | None = None
    """mixup and cutmix, as in ``{mixup: 0.2, cutmix: 1.0}``, of each image and its neighbour; classification only."""
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of all gradients together; null leaves them as they are."""
    decay_all: bool = True
    """Weight decay on every parameter (as the paper); false spares biases and batch normalisation."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is validated and kept."""
    precise_bn: Annotated[int, Field(ge=0)] = 0
    """Training batches over which batch norm's statistics are recomputed before each validation, for the network that
    is validated and kept; 0 takes the running averages, as the paper, which lag behind the weights. At most a tenth of
    an epoch's batches are taken, which costs less than 5 % of its time."""
    calibrate: bool = False
    """Keep with the network the temperature that makes its probabilities honest on val; predict and serving divide the
    logits by it. Classification only."""
    augment: tuple[dict[str, dict[str, Any] | None], ...] = ()
    """Albumentations' transforms and their arguments, in their order, and the presets ``{TrivialAugment: {}}`` and
    ``{RandAugment: {n: 2, m: 9}}``; none by default (as the paper)."""

    @field_validator("batch_size", mode="before")
    @classmethod
    def _a_number_or_auto(cls, value: Any) -> Any:
        if value != "auto" and (type(value) is not int or value < 2):
            raise ValueError("allowed: a whole number from 2 on, or auto")
        return value

    @property
    def resolved_batch_size(self) -> int:
        """Return ``batch_size`` once it is a number: `resolve_batch_size` has put one in the place of auto."""
        assert isinstance(self.batch_size, int)
        return self.batch_size


class EvaluateParams(Section):
    """How a trained network is judged."""

    flip: bool = False
    """Average the logits of each image and of its mirror image."""


class MachineParams(Section):
    """What only changes the machine, never the result: no DVC stage tracks it."""

    workers: PositiveInt | None = None
    """Processes that prepare data and threads that load it; all cores when null."""
    output: str | None = None
    """fsspec URL (``s3://bucket/folder``) that shards are written to; ``data/shards`` when null."""
    engine: Literal["local", "ray"] = "local"
    """Where data is prepared: on this machine, or on the Ray cluster that RAY_ADDRESS names."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train and evaluate; auto is the GPU where there is one."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the network; auto compiles on a GPU."""
    cache: Literal["auto", "host", "device", "stream"] = "auto"
    """Where the training split lies: in memory, or read while training. auto is on the device when it takes under a
    third of that, on the host when under half of what is free, else stream; the batches are the same."""
    deterministic: bool = False
    """Take only kernels that give the same bits at every run, so that a training resumed on a GPU ends bit for bit as
    if it had not been interrupted; slower, and an operation without such a kernel is an error."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How often the state of an unfinished training is saved, besides after every epoch."""
    fingerprint: Literal["stat", "content"] = "stat"
    """How a change of the raw files is noticed: by names, sizes, inodes and times, or by reading all of them."""
    roots: dict[str, str] = {}
    """Raw files of a dataset, by name; ``data/raw/<name>`` when not named here."""
    tracking_uri: str | None = None
    """MLflow store; ``sqlite:///<repository>/mlflow.db`` when null; MLFLOW_TRACKING_URI goes first."""
    study_storage: str | None = None
    """Where `wavemix search` keeps its trials, an SQLAlchemy address; ``sqlite:///<repository>/studies.db`` when null;
    STUDY_STORAGE goes first: a password belongs there."""
