"""Augment sample by sample on the host, with Albumentations."""

from __future__ import annotations

import copy
import inspect
import os
import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.errors import UserError, did_you_mean
from pipeline.data.loading.batch import Batch
from pipeline.data.shards.targets import IGNORE


class OnHost:
    """A recipe as an `albumentations.Compose`.

    Masks move with their images, by the nearest pixel; new pixels are ignored.
    """

    on_host = True

    def __init__(self, steps: Sequence[tuple[str, dict[str, Any]]], seed: int, spatial: bool) -> None:
        album = _albumentations()
        transforms = [_transform(name, arguments) for name, arguments in steps]
        self._compose = album.Compose(transforms, mask_interpolation=0)  # cv2.INTER_NEAREST
        self._seed, self._spatial = seed, spatial
        self._threads = threading.local()

    def __call__(self, batch: Batch, epoch: int, indices: Tensor) -> Batch:
        if not hasattr(self._threads, "recipe"):
            self._threads.recipe = _Recipe(copy.deepcopy(self._compose), self._seed)
        images, targets = [], []
        for image, target, index in zip(
            batch.image.numpy(), batch.target.numpy(), indices.tolist(), strict=True
        ):
            changed, mask = self._threads.recipe(image, target if self._spatial else None, epoch, index)
            images.append(changed)
            targets.append(mask)
        stacked = torch.from_numpy(np.stack(images)).reshape(len(images), *images[0].shape[:2], -1)
        return Batch(stacked, torch.from_numpy(np.stack(targets)) if self._spatial else batch.target)


class _Recipe:
    """A Compose with one source of randomness, reseeded for every sample.

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
    """Build one transform of Albumentations, or a composition (OneOf, SomeOf, Sequential) of a list of them.

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
