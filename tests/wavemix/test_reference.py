"""The reference block against the fast one, and its borders against PyWavelets."""

from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wavemix import ModelConfig, WaveMixLite, build_model, create_model
from wavemix.config import EXPANSIONS, WAVELET_MODES
from wavemix.reference import Transform

CONFIG: dict[str, Any] = {"task": "classification", "num_classes": 3}


def pair(**changes: Any) -> tuple[WaveMixLite, WaveMixLite]:
    """Return a fast and a reference network with the same weights."""
    torch.manual_seed(0)
    fast = create_model("8/2", **(CONFIG | changes))
    reference = create_model("8/2", **(CONFIG | changes | {"implementation": "reference"}))
    assert list(reference.state_dict()) == list(fast.state_dict())
    reference.load_state_dict(fast.state_dict())
    return fast, reference


def outcome(model: WaveMixLite, images: Tensor) -> list[Tensor]:
    """Return the logits, and the gradient of every parameter as one vector."""
    logits = model(images)
    gradients = torch.autograd.grad(logits.float().square().sum(), list(model.parameters()))
    return [logits, torch.cat([gradient.flatten() for gradient in gradients])]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance * theirs.abs().max().item(), rtol=0)


@pytest.mark.parametrize("expansion", [*EXPANSIONS, "idwt of four sub-bands"])
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
def test_same_logits_and_gradients_as_the_fast_block(wavelet: str, levels: int, expansion: str) -> None:
    changes: dict[str, Any] = {"wavelet": wavelet, "levels": levels, "expansion": expansion, "dropout": 0.0}
    if expansion == "idwt of four sub-bands":
        changes |= {"expansion": "idwt", "ff": 32}
    fast, reference = (model.double() for model in pair(**changes))
    images = torch.randn(2, 3, 29, 34, dtype=torch.float64)
    assert_same(outcome(reference, images), outcome(fast, images), 1e-5)  # filters are float32 numbers


@pytest.mark.parametrize("changes", [{}, {"wavelet": "db2", "levels": 2}, {"expansion": "idwt"}])
def test_trains_under_autocast_as_the_fast_block(changes: dict[str, Any]) -> None:
    fast, reference = pair(dropout=0.0, **changes)
    images = torch.randn(4, 3, 17, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = outcome(reference, images), outcome(fast, images)
    assert found[0].dtype == torch.bfloat16
    assert_same(found, expected, 0.1)


def test_drops_in_training_only() -> None:
    fast, reference = pair(dropout=0.5)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(reference.eval()(images), fast.eval()(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reference.fuse()(images), fast(images), atol=1e-5, rtol=1e-5)
    reference.train()
    assert not torch.equal(reference(images), reference(images))


@pytest.mark.parametrize("mode", WAVELET_MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_borders_are_pywavelets_and_their_gradients_right(wavelet: str, mode: str) -> None:
    config = ModelConfig(
        dim=8, depth=1, wavelet=wavelet, wavelet_mode=mode, implementation="reference", **CONFIG
    )
    transform = Transform(config).double()
    x = torch.randn(1, 2, 9, 6, dtype=torch.float64, requires_grad=True)
    low, details = pywt.dwt2(x.detach().numpy(), wavelet, mode=mode)
    expected = np.concatenate([low, np.stack(details, 2).reshape(1, 6, *low.shape[2:])], axis=1)
    np.testing.assert_allclose(transform(x).detach(), expected, atol=1e-6)
    assert torch.autograd.gradcheck(transform, x)


@pytest.mark.parametrize("mode", WAVELET_MODES)
@pytest.mark.parametrize("expansion", EXPANSIONS)
def test_every_border_keeps_the_size(mode: str, expansion: str) -> None:
    model = create_model(
        "8/1", implementation="reference", wavelet_mode=mode, wavelet="db2", expansion=expansion, **CONFIG
    )
    x = torch.randn(2, 8, 11, 14)
    assert model.blocks[0](x).shape == x.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wavelet_mode": "symmetric"}, "wavelet_mode 'symmetric' needs implementation 'reference'"),
        ({"implementation": "refrence"}, r"unknown implementation 'refrence' \(did you mean 'reference'\?\)"),
        ({"implementation": "reference", "memory": "lean"}, "memory must be 'default', not 'lean'"),
        ({"implementation": "reference", "mixer": "dft"}, "mixer must be 'dwt', not 'dft'"),
    ],
)
def test_what_an_implementation_lacks_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("8/1", **(CONFIG | changes))


def test_a_config_of_an_earlier_version_is_fast() -> None:
    values = ModelConfig(dim=8, depth=1, **CONFIG).to_dict()
    del values["implementation"], values["wavelet_mode"]
    assert build_model(ModelConfig.from_dict(values)).config.implementation == "fast"
