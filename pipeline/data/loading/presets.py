"""Strong augmentation in a word: TrivialAugment and RandAugment as recipes of Albumentations' transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import UserError, did_you_mean

Step = tuple[str, dict[str, Any]]
STRONGEST = 30
"""RandAugment's scale of strengths."""
OPERATIONS = 14


def expand(name: str, arguments: Mapping[str, Any]) -> Step:
    """Return the transform that the preset ``name`` stands for; another name is returned as it is.

    ``TrivialAugment`` (Müller and Hutter 2021) changes each image by one of 14 operations, drawn evenly, with a
    strength drawn evenly up to the largest. ``RandAugment`` (Cubuk et al. 2020) applies ``n`` of them, each with a
    strength drawn up to ``m`` thirtieths of the largest.

    Raises:
        UserError: the preset does not take these arguments.
    """
    if name not in ("TrivialAugment", "RandAugment"):
        return name, dict(arguments)
    allowed = {} if name == "TrivialAugment" else {"n": (2, 1, OPERATIONS), "m": (9, 0, STRONGEST)}
    for argument in arguments:
        if argument not in allowed:
            takes = ", ".join(allowed) or "none"
            raise UserError(
                f"train.augment: {name}: got {argument!r}{did_you_mean(argument, allowed)}, allowed: {takes}"
            )
    if name == "TrivialAugment":
        return "OneOf", {"transforms": _operations(1.0), "p": 1.0}
    values = {}
    for argument, (default, low, high) in allowed.items():
        value = arguments.get(argument, default)
        if type(value) is not int or not low <= value <= high:
            raise UserError(
                f"train.augment: RandAugment: {argument}: got {value!r}, allowed: a whole number from {low} to {high}"
            )
        values[argument] = value
    parts = _operations(values["m"] / STRONGEST)
    return "SomeOf", {"transforms": parts, "n": values["n"], "replace": True, "p": 1.0}


def _operations(strength: float) -> list[dict[str, dict[str, Any]]]:
    """Return the operations, each with a strength drawn evenly up to ``strength`` (0 to 1) of the largest."""
    factor = [1 - 0.99 * strength, 1 + 0.99 * strength]
    same, turn, shift, shear = [1.0, 1.0], 135 * strength, 0.45 * strength, 45 * strength
    jitter = {"brightness": same, "contrast": same, "saturation": same, "hue": [0.0, 0.0]}
    operations: dict[str, list[dict[str, Any]]] = {
        "NoOp": [{}],
        "Affine": [
            {"shear": {"x": [-shear, shear], "y": [0, 0]}},
            {"shear": {"x": [0, 0], "y": [-shear, shear]}},
            {"translate_percent": {"x": [-shift, shift], "y": [0, 0]}},
            {"translate_percent": {"x": [0, 0], "y": [-shift, shift]}},
        ],
        "Rotate": [{"limit": [-turn, turn]}],
        "ColorJitter": [{**jitter, name: factor} for name in ("brightness", "contrast", "saturation")],
        "Sharpen": [{"alpha": [0.0, 0.99 * strength], "lightness": same}],
        "Posterize": [{"num_bits": [8 - round(6 * strength), 8]}],
        "Solarize": [{"threshold_range": [1 - strength, 1.0]}],
        "AutoContrast": [{}],
        "Equalize": [{}],
    }
    return [
        {name: {**arguments, "p": 1.0}} for name, variants in operations.items() for arguments in variants
    ]
