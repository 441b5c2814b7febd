"""Precision and arithmetic follow the hardware and the params."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipeline.core.device import choose_compile, choose_precision, precise_type, set_arithmetic

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    set_arithmetic("no", deterministic=False)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_is_bf16_only_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    """A V100 and a T4 support bf16, by emulation."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
    )
    assert choose_precision("auto", CUDA) == expected
    assert choose_precision("off", CUDA) == "no"


def test_float32_without_mixed_precision_is_float32(restored: None) -> None:  # noqa: ARG001
    for amp, allowed in (("bf16", True), ("no", False)):
        set_arithmetic(amp, deterministic=False)
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed


def test_deterministic_takes_repeatable_kernels_alone(restored: None) -> None:  # noqa: ARG001
    set_arithmetic("no", deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    set_arithmetic("no", deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark


def test_sums_are_as_precise_as_the_device_allows() -> None:
    assert precise_type(CPU) is precise_type(CUDA) is torch.float64
    assert precise_type(torch.device("mps")) is torch.float32


def test_auto_compiles_on_a_gpu() -> None:
    assert [choose_compile("auto", device) for device in (CUDA, CPU)] == [True, False]
    assert choose_compile("on", CPU)
    assert not choose_compile("off", CUDA)
