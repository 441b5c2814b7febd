"""Shapes, forms and gradients of every variant."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavemix import WaveMixLite, create_model
from wavemix.block import random_mask
from wavemix.wavelet import concatenate_bands, dwt

CLASSIFY: dict[str, Any] = {"task": "classification", "num_classes": 5}
SEGMENT: dict[str, Any] = {"task": "segmentation", "num_classes": 5}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": CLASSIFY,
    "segmentation": SEGMENT | {"stem_stride": 2},
    "segmentation, many classes": SEGMENT | {"num_classes": 40, "stem_stride": 2},
    "segmentation at full resolution": SEGMENT,
    "segmentation, patches, pyramid": SEGMENT | {"patch_size": 4, "family": "wavemix", "levels": 2},
    "bilinear": CLASSIFY | {"expansion": "bilinear"},
    "bicubic": CLASSIFY | {"expansion": "bicubic", "levels": 2},
    "idwt of approximations": CLASSIFY | {"expansion": "idwt"},
    "idwt of all bands": CLASSIFY | {"expansion": "idwt", "ff": 64, "wavelet": "db2"},
    "four levels": CLASSIFY | {"levels": 4},
    "pyramid, 13 channels, lean": CLASSIFY
    | {"family": "wavemix", "levels": 3, "in_channels": 13, "memory": "lean"},
    "learnt haar": CLASSIFY | {"learnable": True},
    "learnt db2, two levels": CLASSIFY | {"learnable": True, "wavelet": "db2", "levels": 2},
    "no mixing": CLASSIFY | {"mixer": "none"},
    "dft": CLASSIFY | {"mixer": "dft"},
    "max-pooling": CLASSIFY | {"mixer": "maxpool", "levels": 2},
    "merged stem": CLASSIFY | {"dim": 64},
    "merged strided stem": CLASSIFY | {"dim": 128, "depth": 1, "stem_stride": 2},
}


def make(variant: str, **changes: Any) -> WaveMixLite:
    """The variant with batch norms that are not the identity."""
    torch.manual_seed(0)
    model = create_model("16/2", **(VARIANTS[variant] | changes))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(32, 32), (28, 44), (33, 45)])
def test_shapes_training_and_the_fused_form(variant: str, size: tuple[int, int]) -> None:
    model = make(variant)
    if model.config.patch_size and size[0] % 4:
        pytest.skip("refused: test_config")
    images = torch.randn(2, model.config.in_channels, *size)
    logits = model(images)
    assert logits.shape == (
        (2, 5) if model.config.task == "classification" else (2, model.config.num_classes, *size)
    )
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        expected, fused = model(images), model.fuse()(images)
    torch.testing.assert_close(fused, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_fusing_leaves_the_model_alone_and_shrinks_the_copy() -> None:
    model = make("merged strided stem", **SEGMENT).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = model.fuse()
    assert model.training
    assert not fused.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert fused.fuse() is fused


def plain_block(model: WaveMixLite, x: Tensor) -> Tensor:
    """The first block as the paper draws it: transform, concatenation, layer after layer."""
    block: Any = model.blocks[0]
    feedforward = block.feedforwards["1"]
    bands = concatenate_bands(dwt(block.reduction(x), block.analysis.kernels))
    hidden = feedforward.narrow(F.gelu(feedforward.widen(bands)))
    result: Tensor = feedforward.norm(feedforward.expansion(hidden)) + x
    return result


@pytest.mark.parametrize("memory", ["default", "lean"])
def test_fast_block_is_the_plain_block(memory: str) -> None:
    model = make("plain", memory=memory, dropout=0.0).double()
    x = torch.randn(2, 16, 12, 10, dtype=torch.float64, requires_grad=True)
    parameters = list(model.blocks[0].parameters())
    results = []
    for function in (lambda: model.blocks[0](x), lambda: plain_block(model, x)):
        y = function()
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *parameters])])
    for ours, oracle in zip(*results, strict=True):
        torch.testing.assert_close(ours, oracle, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("size", [(32, 41), (37, 64), (40, 39)])
def test_merged_stem_is_the_two_convolutions(step: int, size: tuple[int, int]) -> None:
    model = make("merged stem", dim=256, depth=1, stem_stride=step).double()
    assert model.stem.merge
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    results = []
    stem: Any = model.stem
    for function in (stem, lambda x: stem[1](stem[0](x))):
        y = function(images)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(model.stem.parameters()))])
    for ours, oracle in zip(*results, strict=True):
        torch.testing.assert_close(ours, oracle, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_drops_its_share_keeps_the_mean_and_blocks_the_gradient(probability: float) -> None:
    torch.manual_seed(1)
    x = torch.randn(64, 32, 20, 21).contiguous(memory_format=torch.channels_last)
    mask = random_mask(x, probability)
    assert mask.stride() == x.stride()
    spread = (probability * (1 - probability) / x.numel()) ** 0.5
    assert abs(mask.float().mean().item() - probability) < 6 * spread
    neighbours = (mask.flatten()[1:] & mask.flatten()[:-1]).float().mean().item()
    assert abs(neighbours - probability**2) < 12 * spread
    block: Any = make("plain", dropout=probability).train().blocks[0]
    feedforward = block.feedforwards["1"]
    nn.init.ones_(feedforward.widen.bias)
    nn.init.zeros_(feedforward.widen.weight)
    nn.init.ones_(feedforward.narrow.weight)
    nn.init.zeros_(feedforward.narrow.bias)
    flat = torch.zeros(8, 4, 64, 64)
    dropped = feedforward._mlp(flat, block.analysis, None)
    kept = feedforward.eval()._mlp(flat, block.analysis, None)
    assert dropped.mean().item() == pytest.approx(kept.mean().item(), rel=0.02)
    assert dropped.std() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["plain", "bilinear", "learnt db2, two levels", "segmentation", "dft"])
def test_autocast_reaches_every_layer(variant: str, dtype: torch.dtype) -> None:
    model = make(variant)
    seen: dict[str, torch.dtype] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out.dtype))
    with torch.autocast("cpu", dtype=dtype):
        logits = model(torch.randn(2, 3, 32, 32))
    logits.float().square().mean().backward()
    assert set(seen.values()) == {dtype}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_gradients_stay_channels_last() -> None:
    """Laid out otherwise, they make batch norm's backward pass 30 times slower on the CPU."""
    model = make("plain")
    layouts: list[Any] = []
    for block in model.blocks:
        block.register_full_backward_hook(lambda _m, _i, out: layouts.extend(out))
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert len(layouts) == 2
    assert all(gradient.is_contiguous(memory_format=torch.channels_last) for gradient in layouts)
