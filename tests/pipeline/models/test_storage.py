"""Networks that are written and read again."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import wavemix
from pipeline.models import build_network, parse_model
from pipeline.models.storage import load_network, save_network
from tests.pipeline.models.networks import spec

SIZE = (32, 32)
RESNET = {"family": "resnet", "depth": 18, "stem": "cifar"}
WAVEMIX = {"dim": 8, "depth": 1}
CCT = {"family": "cct", "dim": 8, "depth": 1}
TIMM = {"family": "timm", "name": "vit_wee_patch16_reg1_gap_256"}


def saved(folder: Path, keys: dict[str, Any]) -> nn.Module:
    """Write a network of ``keys`` into ``folder`` and return it."""
    model, demands = parse_model(keys), spec(outputs=3)
    network = build_network(model, demands)
    save_network(network, model, demands, folder)
    return network


def edit(folder: Path, **changes: Any) -> None:
    """Change ``config.json`` in ``folder``, at its top and in what it holds under params and spec."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for part in (values, values.get("params", {}), values.get("spec", {})):
        part.update({key: value for key, value in changes.items() if key in part})
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "keys",
    [
        RESNET,
        WAVEMIX,
        {**WAVEMIX, "family": "wavemix"},
        {"family": "cpv", "dim": 8, "depth": 1, "heads": 2},
        {"family": "cct", "dim": 8, "depth": 1},
        {"family": "cvt", "dim": 8, "depths": [1, 1, 1]},
        {"family": "hybrid_vin", "dim": 8, "depth": 1},
    ],
    ids=str,
)
def test_a_network_is_read_as_it_was_written(keys: dict[str, Any], tmp_path: Path) -> None:
    network = saved(tmp_path, keys)
    loaded, model, demands = load_network(tmp_path, SIZE)
    assert type(loaded) is type(network)
    assert loaded.training
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert model.label == parse_model(keys).label
    assert demands == spec(outputs=3)


def test_wavemix_reads_the_same_files(tmp_path: Path) -> None:
    network = saved(tmp_path, WAVEMIX)
    loaded = wavemix.load(tmp_path)
    weights = "head.linear.weight"
    assert torch.equal(loaded.get_parameter(weights), network.get_parameter(weights))


def test_a_network_that_wavemix_wrote_is_read(tmp_path: Path) -> None:
    network = wavemix.create_model("8/1", task="segmentation", num_classes=3, stem_stride=2, in_channels=1)
    wavemix.save(network, tmp_path)
    loaded, model, demands = load_network(tmp_path, SIZE)
    assert isinstance(loaded, wavemix.WaveMixLite)
    assert loaded.config == network.config
    assert model == parse_model({"dim": 8, "depth": 1, "stem_stride": 2})
    assert demands == spec(spatial=True, outputs=3, channels=1)


@pytest.mark.parametrize(
    ("keys", "changes", "message"),
    [
        (RESNET, {"depth": 34}, "the weights fit another model than this one: .* missing"),
        (RESNET, {"outputs": 4}, "of another shape"),
        (RESNET, {"outputs": 10**9}, r"spec.outputs: got 1000000000, Input should be less"),
        (RESNET, {"outputs": 65536, "channels": 65536}, "of another shape"),
        (RESNET, {"family": "resnt"}, r"family: got 'resnt', no such family \(did you mean 'resnet'"),
        (RESNET, {"stem": 3}, "stem: got 3"),
        (CCT, {"dim": 65536, "heads": 1}, "of another shape"),
        (CCT, {"size": [32, 65536]}, r"config.json is for images of \(32, 65536\), not of \(32, 32\)"),
        (CCT, {"depth": 256}, "missing"),
        (CCT, {"heads": 3}, "dim is 8; it must be a multiple of heads, 3"),
        (TIMM, {"name": "vit_giant_patch14_224"}, "another model"),
        (TIMM, {"name": "hf-hub:a/b"}, "name: got 'hf-hub:a/b', allowed"),
        (WAVEMIX, {"stem_stride": 65536}, "images of 32x32 are too small"),
        (WAVEMIX, {"dim": 10**9}, "dim is 1000000000; it must be"),
        (WAVEMIX, {"depth": 10**6}, "depth: got 1000000, Input should be less"),
        (WAVEMIX, {"dim": 65536, "ff": 65536, "mult": 65536}, "of another shape"),
        (WAVEMIX, {"depth": 256}, "missing"),
        (WAVEMIX, {"num_classes": 10**9}, "num_classes is 1000000000; it must be"),
        (WAVEMIX, {"num_classes": 10**30}, "num_classes is 10"),
        (WAVEMIX, {"in_channels": 10**18}, "in_channels|channels"),
        (WAVEMIX, {"patch_size": 65536}, "images of 32x32 are too small"),
        (WAVEMIX, {"wavelet": [1]}, "wavelet|broken"),
        (WAVEMIX, {"levels": 1.0}, "levels is 1.0"),
        (WAVEMIX, {"mixer": {}}, "mixer"),
    ],
)
def test_a_config_of_another_network_than_the_weights_costs_neither_memory_nor_time(
    keys: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    saved(tmp_path, keys)
    edit(tmp_path, **changes)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        load_network(tmp_path, SIZE)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("keys", [CCT, {"family": "hybrid_vin", "dim": 8, "depth": 1}], ids=str)
def test_an_image_size_that_keeps_the_weights_shapes_costs_no_memory(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    saved(tmp_path, keys)
    edit(tmp_path, size=[65536, 65536])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load_network(tmp_path, (65536, 65536))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("keys", [RESNET, WAVEMIX], ids=str)
def test_a_damaged_file_is_one_line(keys: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path, keys)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole = weights.read_bytes()
    for content in (b"", whole[:100], whole[:-1], b"\xff" * 100):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=r"a broken config\.json or model\.safetensors"):
            load_network(tmp_path, SIZE)
    weights.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_network(tmp_path, SIZE)
    weights.write_bytes(whole)
    for text in (
        "",
        "[]",
        "{",
        '{"spec": 3}',
        "null",
        " " * (1 << 21),
        "[" * 100_000,
        "\xff",
        '{"dim": NaN}',
    ):
        config.write_text(text)
        with pytest.raises(ValueError, match=r"config\.json|the model needs task"):
            load_network(tmp_path, SIZE)


def test_a_tensor_too_many_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, RESNET)
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), "extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"1 left over \(extra\)"):
        load_network(tmp_path, SIZE)
