"""What the project writes itself, and what is sent to the served model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from pipeline.checkpoints.states import load_state, save_state
from pipeline.checkpoints.trained import describe, save_trained
from pipeline.core.errors import UserError
from pipeline.data.loading.memory import load_samples
from pipeline.data.raw.fingerprint import read_fingerprint
from pipeline.data.shards.manifest import FILE_NAME, read_manifest
from pipeline.data.shards.verify import verify
from pipeline.inference.base64_text import decode_base64, encode_base64
from pipeline.inference.predictor import Predictor
from pipeline.inference.serving import ImageModel
from pipeline.models.base import NetworkSpec
from pipeline.models.choice import parse_model
from pipeline.params import load_params
from tests import ROOT
from tests.fuzz.base import Files, Format, Part
from tests.fuzz.mend import png_checksums, tar_checksums
from tests.pipeline import toy
from tests.pipeline.experiment import SIZE, toy_network, toy_params, write_toy_shards
from tests.pipeline.workshop import noise, png

TASKS = ("classification", "segmentation")
ENCODINGS = ("raw", "png")
COUNTS = {"train": 3, "val": 2}


def _files(write: Callable[[Path], object]) -> dict[str, bytes]:
    """Return what ``write`` writes into a folder, by name."""
    with TemporaryDirectory() as home:
        folder = Path(home) / "made"
        write(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@cache
def shard_folders() -> list[dict[str, bytes]]:
    """Return shards with their manifests, of each task in each encoding."""
    return [
        _files(lambda folder, each=(task, encoding): toy.write_shards(folder, *each, counts=COUNTS))  # type: ignore[misc]
        for task in (*TASKS, "multilabel")
        for encoding in ENCODINGS
    ]


def shards() -> list[Files]:
    """Shards under genuine manifests."""
    return [
        {name: Part(data, tar_checksums) if name.endswith(".tar") else data for name, data in files.items()}
        for files in shard_folders()
    ]


def manifests() -> list[Files]:
    """Genuine shards under manifests."""
    return [
        {name: Part(data) if name == FILE_NAME else data for name, data in files.items()}
        for files in shard_folders()
    ]


def use_shards(folder: Path) -> tuple[bytes, ...]:
    """Load both splits.

    Raises:
        UserError: they are not what the manifest says.
    """
    manifest = read_manifest(folder)
    read = []
    for split in ("train", "val"):
        samples = load_samples(folder, manifest, split)
        read += [samples.images.numpy().tobytes(), samples.targets.numpy().tobytes()]
    return tuple(read)


def verify_shards(folder: Path) -> tuple[bytes, ...]:
    """Verify the shards, which compares their hashes, and load them."""
    verify(folder)
    return use_shards(folder)


def _save(task: str, family: dict[str, Any] | None, folder: Path) -> None:
    manifest = write_toy_shards(folder.parent / "shards", task, {"train": 1})
    network: torch.nn.Module = toy_network(task)
    model = toy_params(task).model
    spatial = task == "segmentation"
    spec = NetworkSpec(spatial=spatial, outputs=6 + spatial, channels=3, size=SIZE)
    if family is not None:
        model = parse_model(family)
        network = model.build(spec)
    trained = describe(
        manifest, parameters=1, epoch=2, step=2, metric="val/top1", value=0.25, run_id="0" * 32
    )
    save_trained(network, model, spec, trained, folder)


@cache
def checkpoint_files() -> list[dict[str, bytes]]:
    """Return trained networks: of WaveMix-Lite for each task, and of a family with a config of its own."""
    kinds: list[tuple[str, dict[str, Any] | None]] = [(task, None) for task in TASKS]
    kinds.append(("classification", {"family": "cpv", "dim": 16, "depth": 1}))
    return [_files(partial(_save, *kind)) for kind in kinds]


def checkpoints() -> list[Files]:
    """Config and description are mutated as often as the weights, of which most bytes are numbers."""
    return [{name: Part(data) for name, data in files.items()} for files in checkpoint_files()]


def use_checkpoint(folder: Path) -> None:
    """Load a network and have it answer an image."""
    predictor = Predictor.load(folder, torch.device("cpu"))
    predictor.predict([predictor.open(png(noise(9, 9)))])


def states() -> list[Files]:
    """States of an unfinished training."""
    tensors = {"network": {"a": torch.arange(12.0).view(3, 4)}, "optimizer": {"0.step": torch.tensor(3)}}
    state = {"epoch": 3, "best": [0.5, None], "name": "x"}
    files = _files(lambda folder: save_state(folder, tensors, state))
    return [{name: Part(data) for name, data in files.items()}]


def use_state(folder: Path) -> None:
    """Load a state; a damaged one is passed over by its `ValueError`."""
    try:
        load_state(folder)
    except ValueError as error:
        raise UserError(str(error)) from None


def use_state_tensors(folder: Path) -> tuple[bytes, ...]:
    """Load a state whose hashes are whole."""
    try:
        tensors, _ = load_state(folder)
    except ValueError as error:
        raise UserError(str(error)) from None
    return tuple(value.numpy().tobytes() for name in sorted(tensors) for value in tensors[name].values())


def requests() -> list[Files]:
    """Requests of three images to a classifier or a segmenter, one of them mutated."""
    images = [Part(png(noise(9, 11, seed=i)), png_checksums) for i in range(2)]
    request = json.dumps([None, 3, 1.5, [], {}, True, "", "data:,", encode_base64(png(noise(3, 3)))]).encode()
    return [
        {**files, **{f"{i}.image": image for i, image in enumerate(images)}, "request.json": Part(request)}
        for files in checkpoint_files()[:2]
    ]


def use_request(folder: Path) -> str:
    """Ask a served model about genuine, mutated and foreign rows; the genuine row's answer is returned."""
    model = ImageModel()
    model.load_context(_Context({"checkpoint": str(folder)}))
    genuine = encode_base64(png(noise(5, 6, seed=9)))
    mutants = [(folder / f"{i}.image").read_bytes() for i in range(2)]
    rows: list[Any] = [genuine, *map(encode_base64, mutants), *mutants]
    rows += [data.decode("latin1") for data in mutants]
    try:
        values = json.loads((folder / "request.json").read_bytes())
    except (ValueError, RecursionError):
        values = (folder / "request.json").read_bytes()
    rows += values if isinstance(values, list) else [values]
    answers = model.predict(None, pd.DataFrame({"image": pd.Series(rows, dtype=object)}))
    assert len(answers) == len(rows)
    assert answers["error"][0] is None
    for answer in answers["error"]:
        assert answer is None or "\n" not in answer
    return str(answers.drop(columns="error").iloc[0].tolist())


class _Context:
    """What MLflow hands to a model when it loads it."""

    def __init__(self, artifacts: dict[str, str]) -> None:
        self.artifacts = artifacts


def use_base64(folder: Path) -> None:
    """Decode one text."""
    decode_base64((folder / "text").read_bytes().decode("latin1"))


def params() -> list[Files]:
    """The repository's own params.yaml cut to what the formats of its values need, and a small one."""
    own = (ROOT / "params.yaml").read_bytes()
    return [
        {"params.yaml": Part(SMALL_PARAMS)},
        {"params.yaml": Part(SMALL_PARAMS + b"# " + own[:200].replace(b"\n", b" "))},
    ]


SMALL_PARAMS = b"""\
data: own
datasets:
  own: &own
    reader: image_folder
    sizes: [[64, 64], [32, 32]]
    val_fraction: 0.2
    options: {split: letters, test: true}
  other: *own
model: {family: wavemix-lite, dim: 128, depth: 7, dropout: 0.5}
train:
  batch_size: auto
  size: [32, 32]
  phases:
    - {optimizer: adamw, lr: 1e-3, epochs: 1.5, warmup: {steps: 100}}
    - {optimizer: sgd, samples: 1000, schedule: cosine, patience: 3}
  augment:
    - HorizontalFlip: {p: 0.5}
machine:
  roots: {own: "s3://bucket/folder"}
  workers: 2
"""


def use_params(folder: Path) -> None:
    """Load params.yaml and look up what stages look up first."""
    loaded = load_params(folder / "params.yaml")
    loaded.dataset, loaded.size, loaded.root(loaded.data), loaded.pretrained


def fingerprints() -> list[Files]:
    """What `prepare` depends on in place of the raw files."""
    digest = "0" * 64
    own = {"dataset": "own", "files": 2, "bytes": 10, "suffixes": {".png": {"files": 2, "bytes": 10}}}
    return [{"own.json": Part(json.dumps({**own, "digest": digest, "reader": digest}).encode())}]


def use_fingerprint(folder: Path) -> None:
    """Read a fingerprint."""
    read_fingerprint(folder / "own.json")


FORMATS = {
    "shards": Format(shards, use_shards),
    "verified_shards": Format(shards, verify_shards, checked=True),
    "manifest": Format(manifests, use_shards),
    "checkpoint": Format(checkpoints, use_checkpoint),
    "state": Format(states, use_state),
    "request": Format(requests, use_request),
    "base64": Format(lambda: [{"text": Part(encode_base64(png(noise(3, 3))).encode())}], use_base64),
    "params": Format(params, use_params),
    "fingerprint": Format(fingerprints, use_fingerprint),
}
