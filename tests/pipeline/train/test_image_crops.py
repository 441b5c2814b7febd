"""Images learned from crops of the shards: everything after the training sees their middle, of the crops' size."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from pipeline.benchmark import bench
from pipeline.checkpoints.trained import Trained, load_trained
from pipeline.core.errors import UserError
from pipeline.data.imaging.resize import centre
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.evaluate import evaluation
from pipeline.inference.exporting import EXPORTS
from pipeline.inference.model_card import model_card
from pipeline.inference.predictor import Predictor
from pipeline.models import parse_model
from pipeline.models.inputs import normalise
from pipeline.params import Params
from pipeline.tracking.base import NullTracking
from pipeline.train.trainer import Trainer
from pipeline.train.training import prepare_training

WHOLE, CUT = (8, 12), (6, 8)
CROP: list[Any] = [{"HorizontalFlip": {}}, {"RandomCrop": {"height": CUT[0], "width": CUT[1]}}]
CHECKPOINT = Path("work/best")


def test_the_middle_is_the_one_counted_by_hand() -> None:
    image = np.arange(5 * 4, dtype=np.uint8).reshape(5, 4, 1)
    assert centre(image, (2, 2))[..., 0].tolist() == [[5, 6], [9, 10]]  # one row above, two below
    assert centre(image[None], (5, 1))[0, :, 0, 0].tolist() == [1, 5, 9, 13, 17]
    assert centre(image, (5, 4)).tolist() == image.tolist()


def train(params: Params) -> Trained:
    folder = shards_folder(params.data, params.size)
    training = prepare_training(params, read_manifest(folder), folder, Path("work"))
    assert next(training.loader.epoch(0)).image.shape[1:3] == CUT
    assert (training.validation.size, training.validation.batch_size) == (CUT, 16)
    Trainer(training, NullTracking()).run()
    return load_trained(CHECKPOINT).trained


@pytest.mark.parametrize(
    "model", [None, {"family": "vit", "dim": 8, "depth": 1, "heads": 1, "patch": 2}], ids=str
)
def test_validation_and_evaluation_see_the_middle_of_each_image(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, model: dict[str, Any] | None
) -> None:
    params = toy(augment=CROP)
    if model is not None:
        pytest.importorskip("timm")
        params = params.model_copy(update={"model": parse_model(model)})
    trained = train(params)
    assert (trained.size, trained.resized) == (CUT, WHOLE)

    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    batches = list(evaluation_batches(folder, manifest, "val", 10**6))  # one a shard
    whole, target = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    network = load_trained(CHECKPOINT).network
    with torch.no_grad():
        images = normalise(whole[:, 1:7, 2:10], manifest.mean, manifest.std)
        right = (network(images).argmax(1) == target).float().mean()
    assert trained.value == pytest.approx(float(right))

    monkeypatch.setattr(evaluation, "log", lambda *_: None)
    _, measured = evaluation.evaluate(params, CHECKPOINT, Path("reports"))
    assert measured.values["top1"] == pytest.approx(trained.value)


def test_prediction_and_export_take_what_the_network_takes(toy: Callable[..., Params]) -> None:
    params = toy(augment=CROP)
    train(params)
    pixels = np.random.default_rng(0).integers(0, 256, (*WHOLE, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    predictor = Predictor.load(CHECKPOINT, torch.device("cpu"))
    opened = predictor.open(file.getvalue())
    assert np.array_equal(opened.resized, pixels[1:7, 2:10])
    assert opened.size == WHOLE

    loaded = load_trained(CHECKPOINT)
    middle = np.ascontiguousarray(pixels[None, 1:7, 2:10])
    with torch.no_grad():
        logits = loaded.network(normalise(torch.from_numpy(middle), loaded.trained.mean, loaded.trained.std))
    (prediction,) = predictor.predict([opened])
    assert dict(prediction.classes) == pytest.approx(
        dict(zip(loaded.trained.class_names, logits.softmax(1)[0].tolist(), strict=True)), abs=1e-5
    )
    exported = EXPORTS["onnx"](CHECKPOINT, Path())
    session = onnxruntime.InferenceSession(exported)
    answer = session.run(None, {session.get_inputs()[0].name: middle})[0]
    np.testing.assert_allclose(answer, logits, atol=1e-4)
    assert "| images | 6x8, the middle of 8x12," in model_card(loaded, "a/b", None, {}, None)


def test_costs_are_those_of_the_crops(toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MIN_SECONDS", 0.0)
    whole, cut = (
        {cost.name: cost.value for cost in bench.benchmark(params, Path("reports"))}
        for params in (toy(), toy(augment=CROP))
    )
    assert cut["parameters"] == whole["parameters"]
    assert cut["kept_for_backward_mb"] < 0.6 * whole["kept_for_backward_mb"]  # half the pixels
    assert "images of 6x8" in Path("reports/benchmark.md").read_text()


def test_another_crop_is_another_network_where_it_counts(
    toy: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe may change after the training: the network keeps the size that it was trained on."""
    monkeypatch.setattr(evaluation, "log", lambda *_: None)
    trained = train(toy(augment=CROP))
    _, measured = evaluation.evaluate(toy(), CHECKPOINT, Path("reports"))
    assert measured.values["top1"] == pytest.approx(trained.value)


def test_crops_that_the_network_does_not_take_are_named(toy: Callable[..., Params]) -> None:
    pytest.importorskip("timm")
    model = parse_model({"family": "vit", "dim": 8, "depth": 1, "heads": 1, "patch": 4})
    params = toy(augment=CROP).model_copy(update={"model": model})
    folder = shards_folder(params.data, params.size)
    with pytest.raises(UserError, match=r"train.augment: crops of 6x8: .*multiples of 4") as refused:
        prepare_training(params, read_manifest(folder), folder, Path("work"))
    assert "\n" not in str(refused.value)
    assert not Path("work").exists()
