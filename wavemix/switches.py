"""Ways to compute the network that only a measurement on the device can choose between.

None changes the result beyond rounding. Each is off until a measurement on a kind of device turns it on: set that in
`MEASURED`, or choose for a while with `switched`. `benchmarks/network.py --switches` measures them in turns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

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

MEASURED = {"cuda": Switches(plain_stem=True, conv_1x1_as_mm=True, cuda_graphs=True)}
"""The switches that paid, by type of device: measured on an H100 (RESULTS.md). Elsewhere all are off."""

_chosen: Switches | None = None


def current(device_type: str) -> Switches:
    """Return the switches in force on a type of device, such as "cuda"."""
    return _chosen or MEASURED.get(device_type, Switches())


@contextmanager
def switched(*names: str) -> Iterator[None]:
    """Turn the named switches on, and all others off, for the duration of a `with` block, on every device.

    A network compiled inside the block must also run inside it.

    Raises:
        ValueError: there is no switch of that name.
    """
    global _chosen
    for name in names:
        check_choice("switch", name, NAMES)
    before = _chosen
    _chosen = Switches(**dict.fromkeys(names, True))
    try:
        yield
    finally:
        _chosen = before


def compile_options(config: ModelConfig, device_type: str, *, graphs: bool = True) -> dict[str, bool]:
    """Return the `options` of `torch.compile` that the switches in force ask for.

    Args:
        config: of the network to compile.
        device_type: of the device that it runs on.
        graphs: whether a CUDA graph may replay it. Not where gradients are added up over several passes, as they lie
            in the graph's own memory, nor where processes exchange tensors in between.

    Returns:
        Options of the Inductor backend; empty if no switch concerns the compiler.
    """
    on = current(device_type)
    options = {
        "conv_1x1_as_mm": on.conv_1x1_as_mm,
        "max_autotune": on.max_autotune,
        "triton.cudagraphs": graphs and on.cuda_graphs and config.dim <= CUDA_GRAPHS_LARGEST_DIM,
    }
    return {name: True for name, on in options.items() if on}
