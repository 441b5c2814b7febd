"""Augmentation: an Albumentations recipe in params.yaml, by the names Albumentations uses.

What happens to a sample is a function of (seed, epoch, the sample's number in its split) alone: the same whatever the
number of processes, threads or batches, and wherever a training was cut off. Recipes of flips and padded random
crops alone run vectorised on the batch's device; all others run in Albumentations, on the host.
"""

from __future__ import annotations

import copy
import inspect
import os
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import UserError, did_you_mean
from pipeline.loader import Batch
from pipeline.manifest import IGNORE, Manifest
from pipeline.vectorised import VECTORISED, OnDevice

Step = Mapping[str, Mapping[str, Any] | None]
"""One transform: its name and its arguments, as in ``{HorizontalFlip: {p: 0.5}}``."""


class Augment(Protocol):
    """Changes the images and masks of a batch; ``indices`` int64 (B,), beside them, are the samples' numbers in
    their split."""

    on_host: bool
    """Whether it works sample by sample in Python, so that threads should run it ahead of the training."""

    def __call__(self, batch: Batch, epoch: int, indices: Tensor) -> Batch: ...


def build_augment(recipe: Sequence[Step], manifest: Manifest, seed: int) -> Augment | None:
    """The augmentation that ``train.augment`` describes, tried on noise first; None where it is empty.

    Raises:
        UserError: no such transform, a wrong argument, or what comes out is not an image of the shards' size.
    """
    steps = [(name, dict(arguments or {})) for step in recipe for name, arguments in step.items()]
    if not steps:
        return None
    augment = (
        OnDevice(steps, seed)
        if all(name in VECTORISED and VECTORISED[name].takes(arguments) for name, arguments in steps)
        else OnHost(steps, seed)
    )
    _try(augment, manifest, ", ".join(name for name, _ in steps))
    return augment


def _try(augment: Augment, manifest: Manifest, names: str) -> None:
    height, width = manifest.size
    noise = np.random.default_rng(0)
    images = torch.from_numpy(noise.integers(0, 256, (8, height, width, manifest.channels), dtype=np.uint8))
    masks = manifest.task == "segmentation"
    targets = (
        torch.zeros((8, height, width), dtype=torch.uint8) if masks else torch.zeros(8, dtype=torch.int64)
    )
    try:
        image, target = augment(Batch(images, targets), 0, torch.arange(8))
        if image.shape != images.shape or target.shape != targets.shape or image.dtype != torch.uint8:
            got = f"{str(image.dtype).removeprefix('torch.')} {list(image.shape[1:])}"
            raise ValueError(
                f"gives {got}; allowed: uint8 {list(images.shape[1:])}, as in the shards "
                "(the pipeline normalises by itself)"
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"train.augment: {names}: {reason or type(error).__name__}; change the recipe"
        ) from None


class OnHost:
    """A recipe as an `albumentations.Compose`; masks are moved with their images, nearest, new pixels ignored."""

    on_host = True

    def __init__(self, steps: Sequence[tuple[str, dict[str, Any]]], seed: int) -> None:
        album = _albumentations()
        transforms = [_transform(name, arguments) for name, arguments in steps]
        self._compose = album.Compose(transforms, mask_interpolation=0)  # cv2.INTER_NEAREST
        self._seed = seed
        self._threads = threading.local()

    def __call__(self, batch: Batch, epoch: int, indices: Tensor) -> Batch:
        if not hasattr(self._threads, "recipe"):
            self._threads.recipe = _Recipe(copy.deepcopy(self._compose), self._seed)
        masks = batch.target.ndim > 1
        images, targets = [], []
        for image, target, index in zip(
            batch.image.numpy(), batch.target.numpy(), indices.tolist(), strict=True
        ):
            changed, mask = self._threads.recipe(image, target if masks else None, epoch, index)
            images.append(changed)
            targets.append(mask)
        stacked = torch.from_numpy(np.stack(images)).reshape(len(images), *images[0].shape[:2], -1)
        return Batch(stacked, torch.from_numpy(np.stack(targets)) if masks else batch.target)


class _Recipe:
    """A Compose with one source of randomness, which is set anew for every sample.

    `Compose.set_random_seed` gives every transform the same seed, so that two flips at p=0.5 would always come
    together, and costs a new generator for each. Here all of them draw from one counter-based generator in turn.
    """

    def __init__(self, compose: Any, seed: int) -> None:
        self._compose = compose
        self._bits = np.random.Philox(key=np.zeros(2, dtype=np.uint64))
        self._state: Any = self._bits.state
        self._seed = seed
        self._generator = np.random.Generator(self._bits)
        self._python = random.Random()
        self._share(compose)

    def _share(self, node: Any) -> None:
        node.random_generator, node.py_random = self._generator, self._python
        for child in getattr(node, "transforms", ()):
            self._share(child)

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, epoch: int, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        self._state["state"]["key"][:] = (self._seed % 2**64, epoch)
        self._state["state"]["counter"][:] = (0, index, 0, 0)
        self._state["buffer_pos"], self._state["has_uint32"] = 4, 0
        self._bits.state = self._state
        self._python.seed(int(self._generator.integers(2**63)))
        if mask is None:
            return self._compose(image=image)["image"], None
        changed = self._compose(image=image, mask=mask)
        return changed["image"], changed["mask"]


def _albumentations() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # importing it would ask the network for its newest version
    import albumentations

    return albumentations


def _transform(name: str, arguments: dict[str, Any]) -> Any:
    """One transform of Albumentations, or a composition (OneOf, SomeOf, Sequential) of a list of them.

    Raises:
        UserError: there is none of that name, or it does not take these arguments.
    """
    album = _albumentations()
    kinds = (album.BasicTransform, album.BaseCompose)
    known = [n for n, kind in vars(album).items() if isinstance(kind, type) and issubclass(kind, kinds)]
    if name not in known:
        raise UserError(
            f"train.augment: got {name!r}{did_you_mean(name, known)}, allowed: the transforms of Albumentations "
            f"{album.__version__}"
        )
    kind = getattr(album, name)
    allowed = [n for n in inspect.signature(kind.__init__).parameters if n != "self"]
    for argument in arguments:
        if argument not in allowed:
            raise UserError(
                f"train.augment: {name}: got {argument!r}{did_you_mean(argument, allowed)}, "
                f"allowed: {', '.join(allowed)}"
            )
    if isinstance(parts := arguments.get("transforms"), list):
        built = [_transform(n, dict(a or {})) for part in parts for n, a in dict(part).items()]
        arguments = {**arguments, "transforms": built}
    if "fill_mask" in allowed:
        arguments = {"fill_mask": IGNORE, **arguments}
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        # pydantic's message: a line with the count, one with the argument, one with what is wrong with it.
        lines = [line.strip() for line in str(error).splitlines()]
        reason = f"{lines[1]}: {lines[2].split(' [type=')[0]}" if len(lines) > 2 else str(error)
        raise UserError(f"train.augment: {name}: {reason}; its arguments: {', '.join(allowed)}") from None
