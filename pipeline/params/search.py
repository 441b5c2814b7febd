"""The section ``search`` of ``params.yaml``: what is varied, what counts, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.sections import PositiveInt, Section

Objective = Literal["accuracy", "parameters", "macs", "memory", "images_per_second"]
Choices = Annotated[tuple[Any, ...], Field(min_length=1)]


class Range(Section):
    """Numbers from ``low`` to ``high``, both of them allowed."""

    low: int | float
    """The smallest value; whole numbers stay whole where both ends are."""
    high: int | float
    """The largest value."""
    log: bool = False
    """Draw evenly in the logarithm, as for learning rates."""

    @model_validator(mode="after")
    def _upright(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; exchange them")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, but a logarithm needs it above 0; leave log out")
        return self


class SearchParams(Section):
    """What `wavemix search` varies, and for how long."""

    space: Annotated[dict[str, Range | Choices], Field(min_length=1)]
    """Keys of ``model`` and ``train``, as in ``model.dim`` or ``train.phases.0.lr``: a range, ``{low: 4, high: 16}``,
    or a list of choices. Values that the network cannot take are left out and named."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("accuracy", "parameters")
    """What is made best: the task's accuracy on val and images a second as high, the others as low as can be. macs are
    those of one image, memory the bytes that training keeps of one image."""
    trials: PositiveInt | None = 40
    """Trainings at most, those stopped early among them."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Epochs at most, over all trainings: none starts beyond them."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of training at most, added up over all processes: none starts beyond them."""
    prune: bool = True
    """Stop a training whose accuracy lies below the median of those before it that cost no more, at the same epoch; the
    first five are never stopped."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What is drawn is a function of it, and of the trials before."""

    @model_validator(mode="after")
    def _ends_and_repeats_nothing(self) -> Self:
        if self.trials is None and self.epochs is None and self.hours is None:
            raise ValueError("needs an end: one of trials, epochs, hours")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives has one twice: {', '.join(self.objectives)}")
        return self
