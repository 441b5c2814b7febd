"""Findings about the data itself, which no loss curve shows: equal images, one image with two labels, tiny images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt

from pipeline.core.errors import printable

Printable = Annotated[str, BeforeValidator(printable)]


class Record(BaseModel):
    """A part of a manifest: nothing unknown is read, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EqualImages(Record):
    """Images that equal another in every pixel at the prepared size; ``examples`` are pairs of names."""

    count: NonNegativeInt
    examples: list[tuple[Printable, Printable]] = Field(default=[])


class Findings(Record):
    """Counts over all samples, none of which is left out for it."""

    repeated: dict[str, EqualImages] = Field(default={})
    """By split: samples that equal an earlier one of the same split."""
    leaked: dict[str, EqualImages] = Field(default={})
    """By split: samples of val or test that equal one of train; val's examples come first."""
    contradicted: EqualImages = EqualImages(count=0)
    """Samples that equal an earlier one, of any split, with another label or mask."""
    small: dict[str, NonNegativeInt] = Field(default={})
    """By split: samples whose raw image is less than half as high or as wide as the prepared size."""

    def leaks(self) -> Iterator[str]:
        """Yield a sentence per split that shares images with train."""
        for split, found in self.leaked.items():
            if found.count:
                yield (
                    f"{found.count:,} of {split} also in train{_such_as(found)}: "
                    f"the metrics of {split} are too good"
                )

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each of the other findings."""
        for split, found in self.repeated.items():
            if found.count:
                yield f"{found.count:,} of {split} repeated within it{_such_as(found)}"
        if self.contradicted.count:
            yield f"{self.contradicted.count:,} with another label than an equal image{_such_as(self.contradicted)}"
        for split, count in self.small.items():
            if count:
                yield f"{count:,} of {split} less than half as large as prepared"


def _such_as(found: EqualImages) -> str:
    return f" ({' = '.join(found.examples[0])})" if found.examples else ""
