"""The configuration of a network, validated when made, and the paper's names for sizes ("256/16 ff512 mul3")."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wavemix.choices import check_choice
from wavemix.wavelet import check_wavelet

TASKS = ("classification", "segmentation")
EXPANSIONS = ("deconvolution", "bilinear", "bicubic", "idwt")
MIXERS = ("dwt", "none", "dft", "maxpool")
FAMILIES = ("wavemix-lite", "wavemix")
MEMORY = ("default", "lean")
IMPLEMENTATIONS = ("fast", "reference")
WAVELET_MODES = ("zero", "symmetric", "reflect", "periodic", "periodization")
LARGEST = 2**20
"""Upper bound of every size: far above any network, and low enough that no product of sizes overflows."""
MAX_LEVELS = 4

_SIZE = re.compile(r"(\d+)/(\d+)((?:\s+(?:ff|mul)\d+)*)")


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a network; equal configs give networks with the same parameters."""

    task: str
    """"classification" or "segmentation"."""
    num_classes: int
    """Number of classes (Cityscapes: 20 = 19 + void)."""
    dim: int
    """Embedding dimension D of "D/N", a multiple of 4."""
    depth: int
    """Blocks N of "D/N"."""
    in_channels: int = 3
    """Channels of the image."""
    mult: int = 2
    """Width of the MLP's hidden layer over `dim` (the paper's mul)."""
    ff: int | None = None
    """Channels between the MLP and the expansion; None: `dim` (appendix A)."""
    dropout: float = 0.5
    """Share of the MLP's hidden values dropped in training, 0 <= dropout < 1."""
    expansion: str = "deconvolution"
    """Layer that returns to full resolution: a learnt transposed convolution or a fixed interpolation."""
    levels: int = 1
    """Levels of the wavelet transform, 1 to 4 (Table 8)."""
    wavelet: str = "haar"
    """Name of a discrete wavelet in PyWavelets; Haar is the paper's and the fast one."""
    learnable: bool = False
    """Train the wavelet's filters, starting from the named one."""
    mixer: str = "dwt"
    """Operation that mixes the pixels: "dwt", or an ablation of section 4.7: "none", "dft" or "maxpool"."""
    family: str = "wavemix-lite"
    """"wavemix-lite", or "wavemix": the authors' full network, a pyramid over the levels."""
    stem_stride: int = 1
    """Stride of each of the two stem convolutions (the paper: 1 for small images, 2 for Cityscapes)."""
    patch_size: int | None = None
    """Side in pixels of the patch stem's patches; None: the strided stem of the paper."""
    memory: str = "default"
    """"lean" keeps fewer activations in training and recomputes the cheap part of each block."""
    implementation: str = "fast"
    """"fast", or "reference": the paper's block in plain words on pytorch_wavelets; the weights are the same."""
    wavelet_mode: str = "zero"
    """Continuation of the maps beyond their border; other than "zero" needs the reference."""

    def __post_init__(self) -> None:
        for field in ("num_classes", "dim", "depth", "in_channels", "mult", "stem_stride"):
            _check_whole(field, getattr(self, field))
        for field in ("ff", "patch_size"):
            if getattr(self, field) is not None:
                _check_whole(field, getattr(self, field))
        for field, allowed in (
            ("task", TASKS),
            ("expansion", EXPANSIONS),
            ("mixer", MIXERS),
            ("family", FAMILIES),
            ("memory", MEMORY),
            ("implementation", IMPLEMENTATIONS),
            ("wavelet_mode", WAVELET_MODES),
        ):
            check_choice(field, getattr(self, field), allowed)
        if self.dim % 4:
            near = max(4, self.dim // 4 * 4)
            raise ValueError(
                f"dim is {self.dim}; it must be a multiple of 4, for example {near} or {near + 4}"
            )
        _check_whole("levels", self.levels, MAX_LEVELS)
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float):
            raise ValueError(f"dropout is {self.dropout!r}; it must be a number, at least 0 and below 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if not isinstance(self.learnable, bool):
            raise ValueError(f"learnable is {self.learnable!r}; it must be true or false")
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.patch_size is not None and self.stem_stride != 1:
            raise ValueError(
                f"patch_size {self.patch_size} and stem_stride {self.stem_stride} exclude each other; "
                "set stem_stride to 1 or patch_size to None"
            )
        check_wavelet(self.wavelet)
        if self.mixer != "dwt" and (self.learnable or self.family != "wavemix-lite"):
            raise ValueError(
                f"mixer {self.mixer!r} has no wavelet: it needs family 'wavemix-lite', learnable false"
            )
        if self.mixer in ("none", "dft") and self.levels != 1:
            raise ValueError(
                f"mixer {self.mixer!r} keeps the resolution: levels must be 1, not {self.levels}"
            )
        if self.family == "wavemix" and self.expansion != "deconvolution":
            raise ValueError(f"family 'wavemix' expands by 'deconvolution' only, not {self.expansion!r}")
        if self.implementation == "reference":
            self._check_reference()
        elif self.wavelet_mode != "zero":
            raise ValueError(f"wavelet_mode {self.wavelet_mode!r} needs implementation 'reference'")
        allowed = {self.dim, 4 * self.dim} if self.expansion == "idwt" else {self.dim}
        if self.expansion != "deconvolution" and self.feedforward not in allowed:
            raise ValueError(
                f"expansion {self.expansion!r} keeps the channels: ff must be "
                f"{' or '.join(map(str, sorted(allowed)))}, not {self.ff}"
            )

    def _check_reference(self) -> None:
        plain = {"family": "wavemix-lite", "mixer": "dwt", "learnable": False, "memory": "default"}
        for field, value in plain.items():
            if getattr(self, field) != value:
                raise ValueError(
                    f"implementation 'reference' is the paper's block alone: {field} must be {value!r}, "
                    f"not {getattr(self, field)!r}"
                )

    @property
    def feedforward(self) -> int:
        """Return the channels between the MLP and the expansion: `ff`, or `dim` if that is None."""
        return self.dim if self.ff is None else self.ff

    @property
    def stem_factor(self) -> int:
        """Return the factor by which the stem shrinks each side of the image."""
        return self.stem_stride**2 if self.patch_size is None else self.patch_size

    @property
    def scale(self) -> int:
        """Return the factor by which a block's mixer shrinks each side of its maps."""
        return 1 if self.mixer in ("none", "dft") else 2**self.levels

    def to_dict(self) -> dict[str, Any]:
        """Return every field as values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build the config from the values of `to_dict`; missing fields take their defaults.

        Raises:
            ValueError: an unknown or missing field, or a value that is not allowed.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            check_choice("model field", name, fields)
        missing = [
            name for name, f in fields.items() if f.default is dataclasses.MISSING and name not in values
        ]
        if missing:
            raise ValueError(
                f"the model needs {', '.join(missing)}; given were {', '.join(values) or 'none'}"
            )
        return cls(**values)


def parse_size(name: str) -> dict[str, int]:
    """Return the keywords of `ModelConfig` that a name of the grammar "D/N [ffX] [mulY]" stands for.

    Raises:
        ValueError: the name is not of that grammar.
    """
    match = _SIZE.fullmatch(name.strip())
    options = re.findall(r"(ff|mul)(\d+)", match[3]) if match else []
    if not match or len(dict(options)) < len(options):
        raise ValueError(f"{name!r} is not a size; write D/N [ffX] [mulY], for example '256/16 ff512 mul3'")
    keywords = {"dim": int(match[1]), "depth": int(match[2])}
    return keywords | {{"ff": "ff", "mul": "mult"}[key]: int(value) for key, value in options}


def _check_whole(field: str, value: object, largest: int = LARGEST) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise ValueError(f"{field} is {value!r}; it must be a whole number from 1 to {largest}")
