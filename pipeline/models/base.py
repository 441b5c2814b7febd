"""The contract of a model family: its keys under ``model:`` in ``params.yaml``, and the networks they describe.

A family is one file: a subclass of `Family`, registered under its name. Importing it must stay cheap, as every stage
reads ``params.yaml``: torch and the libraries that hold the networks are imported where a network is built.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import nn

Width = Annotated[int, Field(gt=0, le=65536)]
"""Channels, or pixels on a side. The limit keeps the product of any two of them a valid size of a tensor."""
Depth = Annotated[int, Field(gt=0, le=256)]
"""Layers or blocks. The limit keeps a hostile ``config.json`` from costing time."""
Ratio = Annotated[float, Field(gt=0, le=64)]
"""A width over another."""
Share = Annotated[float, Field(ge=0, lt=1)]
"""A probability of dropping something, 0 <= share < 1."""


class Frozen(BaseModel):
    """Values that never change: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class NetworkSpec(Frozen):
    """The demands of the task and of the data on a network."""

    spatial: bool
    """True for logits per pixel, (B, outputs, H, W); False for logits per image, (B, outputs)."""
    outputs: Width
    """Logits per image or per pixel."""
    channels: Width
    """Channels of an image."""
    size: tuple[Width, Width]
    """Height and width of an image in pixels."""
    memory: Literal["default", "lean"] = "default"
    """lean keeps fewer activations in training and computes the cheap ones again."""


class Family(Frozen, ABC):
    """One family of networks; an instance holds the keys of one network, validated."""

    family: str
    """Name of the family; each family narrows it to a `Literal` with a default."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Import names of the optional libraries that `build` needs."""
    per_image: ClassVar[bool] = False
    """The family has networks that give logits per image."""
    per_pixel: ClassVar[bool] = False
    """The family has networks that give logits per pixel."""
    lean: ClassVar[bool] = False
    """The family can keep fewer activations (``memory: lean``)."""
    tried: ClassVar[bool] = False
    """`check` cannot tell which images a network takes; `dry_run.check_by_running` must."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The network in a run's name and in reports, such as ``ResNet-18``."""

    named: ClassVar[tuple[str, ...]] = ()
    """Keys that `label` tells."""

    @property
    def description(self) -> str:
        """`label`, and the keys that it does not tell where they differ from their defaults."""
        values = self.model_dump(exclude_defaults=True, exclude={"family", *self.named})
        return " ".join([self.label, *(f"{key} {value}" for key, value in values.items())])

    @property
    def head(self) -> tuple[str, ...]:
        """Prefixes of the names of the head's weights, which fit one task and its classes only."""
        return ("head.",)

    @classmethod
    def family_name(cls) -> str:
        """Return the value of ``family`` that stands for this class."""
        return str(cls.model_fields["family"].default)

    def check(self, spec: NetworkSpec) -> None:
        """Refuse what does not fit ``spec``, at no cost.

        Raises:
            ValueError: names what was got and what is allowed, in one line.
        """

    @abstractmethod
    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return the network on the default device, in training mode: float (B, C, H, W) to logits.

        `pipeline.models.build_network` checks first; call that.
        """

    def resolved(self, spec: NetworkSpec) -> Self:  # noqa: ARG002
        """Return the same network with a value for each key whose null stands for one that depends on ``spec``."""
        return self

    def from_scratch(self) -> Self:
        """Return the same network without downloaded weights."""
        return self

    def for_inference(self, network: nn.Module) -> nn.Module:
        """Return a copy of ``network`` for inference, in evaluation mode, that gives the same logits."""
        return copy.deepcopy(network).eval().requires_grad_(False)

    def compile_options(self, network: nn.Module, device_type: str, *, graphs: bool) -> dict[str, bool]:  # noqa: ARG002
        """Return the `options` of `torch.compile` that a measurement chose for ``network`` on a type of device.

        Args:
            graphs: whether CUDA graphs may replay it: gradients come from one pass in one process.
        """
        return {}

    @abstractmethod
    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the modules of ``network``, in order, whose outputs `feature_maps` can show."""

    def saved_config(self, spec: NetworkSpec) -> dict[str, Any]:
        """Return the content of ``config.json``: all that `pipeline.models.storage` needs to build it again."""
        keys = self.from_scratch().model_dump(mode="json", exclude={"family"})
        return {"family": self.family, "params": keys, "spec": spec.model_dump(mode="json")}


def check_tiling(side: int, size: tuple[int, int]) -> None:
    """Refuse images of ``size`` (height, width) that squares of ``side`` pixels do not tile.

    Raises:
        ValueError: says which sizes do.
    """
    height, width = size
    if height % side or width % side:
        raise ValueError(
            f"images of {height}x{width} do not divide into squares of {side}: both sides must be multiples of {side}"
        )


def numbered_blocks(blocks: nn.Module) -> dict[str, nn.Module]:
    """Return the children of ``blocks`` as ``block 1``, ``block 2``, ..."""
    return {f"block {number}": block for number, block in enumerate(blocks.children(), start=1)}


FAMILIES: dict[str, type[Family]] = {}
"""All families by name; `register` fills it."""

Registered = TypeVar("Registered", bound=Family)


def register(family: type[Registered]) -> type[Registered]:
    """Offer ``family`` as ``model.family``, under its name."""
    FAMILIES[family.family_name()] = family
    return family
