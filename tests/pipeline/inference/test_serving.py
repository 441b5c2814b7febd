"""The served model, row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from pipeline.inference import serving
from pipeline.inference.base64_text import encode_base64
from pipeline.inference.predictor import Opened, Predictor
from pipeline.params import Params
from pipeline.plotting.masks import encode_png

IMAGE = encode_base64(encode_png(np.zeros((20, 30, 3), np.uint8)))


@pytest.fixture
def model(experiment: Callable[..., Params]) -> serving.ImageModel:
    experiment("classification")
    served = serving.ImageModel()
    served.predictor = Predictor.load(Path("checkpoints/best"), torch.device("cpu"))
    return served


@pytest.mark.parametrize("row", [None, float("nan"), 5, b"x", {"a": 1}, "", "!", "AAAA", IMAGE[:40]])
def test_a_row_that_cannot_be_read_costs_itself_only(model: serving.ImageModel, row: Any) -> None:
    broken = "\n".join(IMAGE[start : start + 76] for start in range(0, len(IMAGE), 76))
    table = model.predict(None, pd.DataFrame({"image": [IMAGE, row, broken]}))
    assert table["label"].notna().tolist() == [True, False, True]
    assert table["error"][1].startswith("image 1: ")
    assert table["label"][0] == table["label"][2]


def test_an_image_or_a_request_that_is_too_long_is_refused(
    model: serving.ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ROW_CHARACTERS", len(IMAGE) - 1)
    (error,) = model.predict(None, pd.DataFrame({"image": [IMAGE]}))["error"]
    assert error == f"image 0: {len(IMAGE)} characters, at most {len(IMAGE) - 1}"
    monkeypatch.setattr(serving, "REQUEST_CHARACTERS", 2 * len(IMAGE) - 1)
    with pytest.raises(MlflowException, match="send them in several requests") as refused:
        model.predict(None, pd.DataFrame({"image": [IMAGE, IMAGE]}))
    assert refused.value.get_http_status_code() == 400


def test_memory_follows_the_batch_and_not_the_rows(
    model: serving.ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "BATCH", 3)
    batches: list[int] = []
    predict = model.predictor.predict

    def counted(images: list[Opened]) -> Any:
        batches.append(len(images))
        assert all(image.pixels is image.resized for image in images)  # no full image is held
        return predict(images)

    monkeypatch.setattr(model.predictor, "predict", counted)
    table = model.predict(None, pd.DataFrame({"image": [IMAGE] * 4 + ["!"] * 3 + [IMAGE]}))
    assert batches == [3, 1, 1]
    assert table["label"].notna().tolist() == [True] * 4 + [False] * 3 + [True]
