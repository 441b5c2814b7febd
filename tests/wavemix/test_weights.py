"""Weights on disk: whole, safe, and refused with what differs."""

import json
from pathlib import Path

import pytest
import torch

import wavemix
from wavemix import WaveMixLite, create_model


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
    with pytest.raises(RuntimeError, match=r"blocks\.2\."):
        WaveMixLite.from_pretrained(tmp_path)


def test_a_fused_model_is_not_saved(model: WaveMixLite, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save the model that fuse"):
        wavemix.save(model.fuse(), tmp_path)
    with pytest.raises(ValueError, match="for inference only"):
        model.fuse().train()
    assert not list(tmp_path.iterdir())


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
    (tmp_path / "config.json").write_text(json.dumps(config | {"ff": 8, "depth": 1}))
    with pytest.raises(
        ValueError, match=r"left over \(blocks\.1\..*of another shape \(blocks.0.feedforwards.1.narrow"
    ) as caught:
        wavemix.load(tmp_path)
    assert "\n" not in str(caught.value)
