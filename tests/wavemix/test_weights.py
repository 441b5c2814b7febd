"""Weights on disk: whole, safe, and refused with what differs."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import wavemix
from wavemix import WaveMixLite, create_model
from wavemix.weights import load_exactly


@pytest.fixture
def model() -> WaveMixLite:
    torch.manual_seed(0)
    return create_model(
        "8/2 ff12", task="segmentation", num_classes=3, stem_stride=2, wavelet="db2", learnable=True
    )


def same(first: WaveMixLite, second: WaveMixLite) -> bool:
    images = torch.randn(1, 3, 24, 20)
    return first.config == second.config and torch.equal(first.eval()(images), second.eval()(images))


def test_save_and_load(model: WaveMixLite, tmp_path: Path) -> None:
    wavemix.save(model, tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert same(wavemix.load(tmp_path / "new/folder"), model)


def test_a_compiled_model_saves_under_plain_names(model: WaveMixLite, tmp_path: Path) -> None:
    compiled = torch.compile(model)
    assert isinstance(compiled, torch.nn.Module)
    wavemix.save(compiled, tmp_path)
    assert same(wavemix.load(tmp_path), model)


def test_huggingface_hub_reads_and_writes_the_same_files(model: WaveMixLite, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "theirs")
    assert same(wavemix.load(tmp_path / "theirs"), model)
    wavemix.save(model, tmp_path / "ours")
    assert same(WaveMixLite.from_pretrained(tmp_path / "ours"), model)


def test_huggingface_hub_loads_nothing_by_halves(model: WaveMixLite, tmp_path: Path) -> None:
    wavemix.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"depth": 3}))
    with pytest.raises(ValueError, match="the config is of 3 blocks, the weights of 2"):
        WaveMixLite.from_pretrained(tmp_path)


def test_a_fused_model_is_not_saved(model: WaveMixLite, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save the model that fuse"):
        wavemix.save(model.fuse(), tmp_path)
    with pytest.raises(ValueError, match="for inference only"):
        model.fuse().train()
    assert not list(tmp_path.iterdir())


HOSTILE: dict[str, dict[str, Any]] = {
    "dim": {"dim": 10**9},
    "dim within bounds": {"dim": 2**20},
    "depth": {"depth": 10**6},
    "mult": {"mult": 10**6},
    "classes": {"num_classes": 10**6},
    "channels": {"in_channels": 10**6},
    "stride": {"stem_stride": 2**20},
    "patches": {"stem_stride": 1, "patch_size": 2**20 - 3},
    "everything": {"dim": 2**20, "mult": 2**20, "ff": 2**20, "stem_stride": 2**20, "levels": 4},
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_config_costs_neither_memory_nor_time(
    model: WaveMixLite, tmp_path: Path, attack: str
) -> None:
    wavemix.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | HOSTILE[attack]))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for load in (wavemix.load, WaveMixLite.from_pretrained):
        with pytest.raises(ValueError) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.parametrize("text", ["[" * 60_000, '{"task": "' + "a" * 10**5 + '"}', "1" * 5000, "\xff"])
def test_a_config_that_is_none_is_refused(model: WaveMixLite, tmp_path: Path, text: str) -> None:
    wavemix.save(model, tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"broken config\.json|larger than 65536 bytes") as caught:
        wavemix.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((4,), torch.nan), "stem.0.bias holds NaN or infinity"),
        (torch.full((4,), torch.inf), "stem.0.bias holds NaN or infinity"),
        (torch.ones(4, dtype=torch.int32), r"stem.0.bias is of torch.int32, not torch.float32"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(
    model: WaveMixLite, tmp_path: Path, value: torch.Tensor, message: str
) -> None:
    wavemix.save(model, tmp_path)
    save_file(model.state_dict() | {"stem.0.bias": value}, tmp_path / "model.safetensors")
    for load in (wavemix.load, WaveMixLite.from_pretrained):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_of_tensors_without_numbers_the_shapes_are_compared() -> None:
    with torch.device("meta"):
        model = create_model("8/1", task="classification", num_classes=3)
        shapes = {name: torch.empty(tensor.shape) for name, tensor in model.state_dict().items()}
    load_exactly(model, shapes)
    with pytest.raises(ValueError, match="1 of another shape"):
        load_exactly(model, shapes | {"stem.0.bias": torch.empty(5, device="meta")})


def test_weights_of_half_precision_load(model: WaveMixLite, tmp_path: Path) -> None:
    wavemix.save(model.half(), tmp_path)
    assert same(wavemix.load(tmp_path), model.float())


def test_a_config_of_an_earlier_version_loads(model: WaveMixLite, tmp_path: Path) -> None:
    wavemix.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["implementation"], config["wavelet_mode"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert same(wavemix.load(tmp_path), model)


def test_missing_and_broken_files_are_named(model: WaveMixLite, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        wavemix.load(tmp_path)
    wavemix.save(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="broken"):
        wavemix.load(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold an object"):
        wavemix.load(tmp_path)


def test_weights_of_another_size_are_refused_by_name(model: WaveMixLite, tmp_path: Path) -> None:
    wavemix.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"ff": 8}))
    with pytest.raises(ValueError, match=r"of another shape \(blocks.0.feedforwards.1.narrow") as caught:
        wavemix.load(tmp_path)
    assert "\n" not in str(caught.value)
