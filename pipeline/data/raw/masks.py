"""Masks whose pixels are class ids from 0, or colours: their classes as options give them."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from typing import Any

from pipeline.core.errors import UserError, did_you_mean
from pipeline.data.raw.listing import UNKNOWN, Colour, Labels, Options, Source
from pipeline.data.shards.targets import IGNORE


def option_names(options: Options, key: str = "classes") -> list[str]:
    """Return the names that an option gives: a list, or text with commas between."""
    given = options.get(key, "")
    names = given if isinstance(given, list) else str(given).split(",")
    return [name.strip() for name in map(str, names) if name.strip()]


def mask_classes(source: Source) -> tuple[list[str], Labels]:
    """Return the classes of masks and how their pixels become train ids.

    Options: ``classes``, the names of the ids 0, 1, ...; or ``colours``, the RGB colour of each class, or several of
    one; ``ignore``, an id (255 by default), or a colour or several, of pixels that are ignored.

    Raises:
        UserError: a value that is not allowed.
    """
    options = source.options
    names = option_names(options)
    if "colours" in options:
        return _coloured(options, names)
    ignore = options.get("ignore", IGNORE)
    if not 1 <= len(names) <= IGNORE or not isinstance(ignore, int) or not 0 <= ignore <= 255:
        raise UserError(
            "options.classes: the class names of the ids 0, 1, ... are needed, a list or with commas between "
            f"(1 to {IGNORE} of them, options.ignore an id 0 to 255); got {options}"
        )
    train_ids = [*range(len(names)), *[UNKNOWN] * (256 - len(names))]
    train_ids[ignore] = IGNORE
    return names, Labels(tuple(train_ids), _hues(len(names)))


def _coloured(options: Options, names: list[str]) -> tuple[list[str], Labels]:
    """Return classes and labels of masks in the colours that the options give."""
    given = options["colours"]
    if not isinstance(given, dict) or not 1 <= len(given) <= IGNORE:
        raise UserError(
            f"options.colours: got {given!r}, allowed: a colour for each class, as in {{road: [128, 64, 128]}}"
        )
    for name in names:
        if name not in given:
            raise UserError(
                f"options.classes: {name} has no colour{did_you_mean(name, given)}; options.colours has: "
                f"{', '.join(given)}"
            )
    names = names or list(given)
    if left := [name for name in given if name not in names]:
        raise UserError(f"options.colours: {', '.join(left)}: not among options.classes; add or remove")
    by_class = {name: list(_colours(given[name], f"options.colours.{name}")) for name in names}
    of_colour: dict[Colour, int] = {}
    owners: dict[Colour, str] = {}
    ignored = list(_colours(options["ignore"], "options.ignore")) if "ignore" in options else []
    for train_id, (name, colours) in enumerate([*by_class.items(), ("ignore", ignored)]):
        for colour in colours:
            if colour in of_colour:
                raise UserError(
                    f"options.colours: {list(colour)} is of {owners[colour]} and of {name}; it can be of one"
                )
            of_colour[colour], owners[colour] = train_id if train_id < len(names) else IGNORE, name
    palette = tuple(colours[0] for colours in by_class.values())
    return names, Labels((UNKNOWN,) * 256, palette, tuple(of_colour.items()))


def _colours(given: Any, place: str) -> Iterator[Colour]:
    """Yield the colours of ``given``, one or a list of them.

    Raises:
        UserError: it is neither.
    """
    for colour in given if isinstance(given, list) and given and isinstance(given[0], list) else [given]:
        if not _is_colour(colour):
            raise UserError(
                f"{place}: got {colour!r}, allowed: a colour as [red, green, blue], 0 to 255 each, or a list of them"
            )
        red, green, blue = colour
        yield red, green, blue


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
    )


def _hues(count: int) -> tuple[Colour, ...]:
    """Return a palette of distinct hues."""
    golden = 0.618034  # turns of the colour circle: neighbours in number lie far apart in hue
    colours = [colorsys.hsv_to_rgb(i * golden % 1, 0.55 + 0.4 * (i % 2), 0.9) for i in range(count)]
    return tuple((int(r * 255), int(g * 255), int(b * 255)) for r, g, b in colours)
