"""Ways to compute the network that only a measurement on the device can choose between.

None changes the result beyond rounding. Each is off until a measurement turns it on: set its default here, or
flip it for a while with `switched`. `benchmarks/network.py --switches` measures them in turns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from wavemix.choices import check_choice
from wavemix.config import ModelConfig

CUDA_GRAPHS_LARGEST_DIM = 32
"""Networks up to this dim are so fast on a GPU that launching their kernels takes longer than running them."""


@dataclass(frozen=True)
class Switches:
    """One field per switch."""

    plain_stem: bool = False
    """Run the two stem convolutions one after the other instead of as one composed convolution."""
    subpixel_expansion: bool = False
    """Run the doubling transposed convolution as one 2x2 convolution of stride 1 and an interleave."""
    conv_1x1_as_mm: bool = False
    """Compile 1x1 convolutions to matrix products, which add their bias on the fly."""
    max_autotune: bool = False
    """Let the compiler time several kernels for each convolution and matrix product."""
    cuda_graphs: bool = False
    """Replay the compiled kernels of a small network (`CUDA_GRAPHS_LARGEST_DIM`) as one CUDA graph."""


NAMES = tuple(field.name for field in fields(Switches))

_current = Switches()


def current() -> Switches:
    """Return the switches in force."""
    return _current


@contextmanager
def switched(*names: str) -> Iterator[None]:
    """Turn the named switches on for the duration of a `with` block.

    A network compiled inside the block must also run inside it.

    Raises:
        ValueError: there is no switch of that name.
    """
    global _current
    for name in names:
        check_choice("switch", name, NAMES)
    before = _current
    _current = replace(before, **dict.fromkeys(names, True))
    try:
        yield
    finally:
        _current = before


def compile_options(config: ModelConfig) -> dict[str, bool]:
    """Return the `options` of `torch.compile` that the switches in force ask for.

    Args:
        config: of the network to compile.

    Returns:
        Options of the Inductor backend; empty if no switch concerns the compiler.
    """
    options = {
        "conv_1x1_as_mm": _current.conv_1x1_as_mm,
        "max_autotune": _current.max_autotune,
        "triton.cudagraphs": _current.cuda_graphs and config.dim <= CUDA_GRAPHS_LARGEST_DIM,
    }
    return {name: True for name, on in options.items() if on}
