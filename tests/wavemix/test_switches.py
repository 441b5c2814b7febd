"""Switches change how the network is computed, never its result."""

from typing import Any

import pytest
import torch

from wavemix import ModelConfig, create_model, switches

CONFIG: dict[str, Any] = {"task": "classification", "num_classes": 5}


def fail_with_two_on() -> None:
    with switches.switched("plain_stem", "max_autotune"):
        for device in ("cpu", "cuda"):
            assert switches.current(device) == switches.Switches(plain_stem=True, max_autotune=True)
        raise RuntimeError("in the block")


def test_the_measured_ones_are_in_force_again_after_the_block() -> None:
    before = {device: switches.current(device) for device in ("cpu", "cuda")}
    assert not any(vars(before["cpu"]).values())
    assert before["cuda"] == switches.MEASURED["cuda"]
    with pytest.raises(RuntimeError, match="in the block"):
        fail_with_two_on()
    assert {device: switches.current(device) for device in ("cpu", "cuda")} == before


def test_a_block_without_names_has_all_off() -> None:
    with switches.switched():
        assert not any(vars(switches.current("cuda")).values())


def test_misspelt_names_are_refused() -> None:
    message = r"unknown switch 'plain_stems' \(did you mean 'plain_stem'\?\)"
    with pytest.raises(ValueError, match=message), switches.switched("plain_stems"):
        pass


@pytest.mark.parametrize("name", ["plain_stem", "subpixel_expansion"])
@pytest.mark.parametrize("levels", [1, 2])
def test_same_logits_and_gradients(name: str, levels: int) -> None:
    torch.manual_seed(0)
    model = create_model("64/1", levels=levels, dropout=0.0, **CONFIG).double()
    assert model.stem.merge
    images = torch.randn(2, 3, 21, 32, dtype=torch.float64)
    results = []
    for names in ([], [name]):
        with switches.switched(*names):
            logits = model(images)
            results.append([logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))])
    for off, on in zip(*results, strict=True):
        torch.testing.assert_close(on, off, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["plain_stem", "subpixel_expansion"])
def test_each_reaches_its_layer(name: str) -> None:
    model = create_model("64/1", **CONFIG).eval()
    images = torch.randn(1, 3, 16, 16)
    operators = []
    for names in ([], [name]):
        with switches.switched(*names), torch.profiler.profile() as profile:
            model(images)
        operators.append([event.name for event in profile.events()].count("aten::conv2d"))
    assert operators[0] != operators[1]


def test_options_of_the_compiler() -> None:
    small, large = (ModelConfig(dim=dim, depth=7, **CONFIG) for dim in (32, 128))
    assert switches.compile_options(small, "cpu") == {}
    with switches.switched("conv_1x1_as_mm", "max_autotune", "cuda_graphs"):
        assert switches.compile_options(large, "cuda") == {"conv_1x1_as_mm": True, "max_autotune": True}
        assert switches.compile_options(small, "cuda")["triton.cudagraphs"]
        assert "triton.cudagraphs" not in switches.compile_options(small, "cuda", graphs=False)


@pytest.mark.slow
@pytest.mark.parametrize("names", [["conv_1x1_as_mm"], ["max_autotune"], ["cuda_graphs"]])
def test_compiled_logits_and_gradients_are_the_same(names: list[str]) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = create_model("16/1", dropout=0.0, **CONFIG)
    images = torch.randn(2, 3, 16, 16)
    with switches.switched(*names):
        options = switches.compile_options(model.config, "cpu")
        assert options
        compiled: Any = torch.compile(model, fullgraph=True, options=dict(options))
        results = []
        for form in (model, compiled):
            logits = form(images)
            results.append([logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))])
    for eager, whole in zip(*results, strict=True):
        torch.testing.assert_close(whole, eager, atol=1e-4, rtol=1e-4)
