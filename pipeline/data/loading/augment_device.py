"""Augment whole batches on their device: Albumentations' flips and padded crops as tensor operations."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.loading.batch import Batch
from pipeline.data.shards.targets import IGNORE

Draw = Callable[[int], Tensor]
"""Give the random numbers of a transform by their number in it: float32 (B,) in [0, 1), one per sample."""

Planes = list[Tensor]
"""The images uint8 (B, H, W, C) and, for segmentation, the masks uint8 (B, H, W, 1)."""


@dataclass(frozen=True)
class Vectorised:
    """A transform of whole batches, the arguments it takes with a check for each, and those it requires."""

    apply: Callable[[Planes, dict[str, Any], Draw], Planes]
    arguments: Mapping[str, Callable[[Any], bool]]
    required: tuple[str, ...] = ()

    def takes(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether it supports ``arguments``; where it does not, Albumentations runs or refuses them."""
        return set(self.required) <= set(arguments) <= set(self.arguments) and all(
            self.arguments[name](value) for name, value in arguments.items()
        )


class OnDevice:
    """A recipe of `VECTORISED` transforms, with no work per sample in Python and no wait for the device."""

    on_host = False

    def __init__(self, steps: Sequence[tuple[str, dict[str, Any]]], seed: int, spatial: bool) -> None:
        self._steps, self._seed, self._spatial = steps, seed, spatial

    def __call__(self, batch: Batch, epoch: int, indices: Tensor) -> Batch:
        planes = [batch.image, batch.target[..., None]] if self._spatial else [batch.image]
        for position, (name, arguments) in enumerate(self._steps):

            def draw(number: int, position: int = position) -> Tensor:
                return uniform((self._seed, epoch, position, number), indices)

            planes = VECTORISED[name].apply(planes, arguments, draw)
        return Batch(planes[0], planes[1][..., 0] if self._spatial else batch.target)


def uniform(key: tuple[int, int, int, int], numbers: Tensor) -> Tensor:
    """Return a random number in [0, 1) for each of ``numbers`` (int64), a function of it and ``key``: float32.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014) over the numbers, offset by a hash of the key.
    """
    packed = struct.pack("<4Q", *(part % 2**64 for part in key))
    offset = int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little", signed=True)
    mixed = numbers * _signed(0x9E3779B97F4A7C15) + offset
    mixed = (mixed ^ _shift(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shift(mixed, 27)) * _signed(0x94D049BB133111EB)
    return _shift(mixed ^ _shift(mixed, 31), 40).to(torch.float32) * 2.0**-24


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _shift(value: Tensor, bits: int) -> Tensor:
    """Shift right as if unsigned: torch's own shift repeats the sign."""
    return (value >> bits).bitwise_and(2 ** (64 - bits) - 1)


def _flip(dimension: int) -> Callable[[Planes, dict[str, Any], Draw], Planes]:
    def apply(planes: Planes, arguments: dict[str, Any], draw: Draw) -> Planes:
        chosen = draw(0) < arguments.get("p", 0.5)
        # Whole images are copied, seven times as fast on a CPU as choosing pixel by pixel.
        number = torch.arange(len(chosen), device=chosen.device) + len(chosen) * chosen
        return [torch.cat([plane, plane.flip(dimension)]).index_select(0, number) for plane in planes]

    return apply


def _pad(planes: Planes, arguments: dict[str, Any], _draw: Draw) -> Planes:
    by = [0, 0, *([arguments["padding"]] * 4)]
    return [functional.pad(plane, by, value=fill) for plane, fill in zip(planes, (0, IGNORE), strict=False)]


def _random_crop(planes: Planes, arguments: dict[str, Any], draw: Draw) -> Planes:
    height, width = planes[0].shape[1:3]
    sizes = arguments["height"], arguments["width"]
    if sizes[0] > height or sizes[1] > width:
        raise ValueError(f"RandomCrop of {list(sizes)} from {[height, width]}; Pad first")
    row, column = (
        (draw(number) * (whole - size + 1)).long()[:, None]
        for number, (whole, size) in enumerate(zip((height, width), sizes, strict=True))
    )
    image = torch.arange(len(row), device=row.device)[:, None]
    first = (image * height + row + torch.arange(sizes[0], device=row.device)) * width + column
    return [_runs(plane, first, sizes[1]) for plane in planes]


def _runs(plane: Tensor, first: Tensor, length: int) -> Tensor:
    """Return rows of ``length`` pixels from the pixels numbered ``first`` (B, H) on: (B, H, length, C).

    Every run of pixels is a row of an overlapping view, so that whole rows are copied, not pixels.
    """
    plane = plane.contiguous()
    channels = plane.shape[-1]
    pixels = plane.numel() // channels
    runs = plane.as_strided((pixels - length + 1, length * channels), (channels, 1))
    return runs.index_select(0, first.view(-1)).view(*first.shape, length, channels)


def _is_probability(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and value > 0


VECTORISED = {
    "HorizontalFlip": Vectorised(_flip(2), {"p": _is_probability}),
    "VerticalFlip": Vectorised(_flip(1), {"p": _is_probability}),
    "Pad": Vectorised(_pad, {"padding": _is_size, "p": lambda p: p == 1}, ("padding",)),
    "RandomCrop": Vectorised(
        _random_crop, {"height": _is_size, "width": _is_size, "p": lambda p: p == 1}, ("height", "width")
    ),
}
"""The transforms that run on the device, by Albumentations' names; `Pad` adds zeros on all sides."""
