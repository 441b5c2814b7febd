"""Networks of other families go the whole way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoints.trained import load_trained
from pipeline.cli.parser import main
from pipeline.evaluate.evaluation import evaluate
from pipeline.inference.exporting import export
from pipeline.models import parse_model
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.train.experiment import train
from tests.pipeline.toy import SIZE

CHECKPOINT = Path("checkpoints/best")


def test_a_resnet_is_trained_measured_predicted_with_and_exported(
    toy: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    model = parse_model({"family": "resnet", "depth": 18, "stem": "cifar"})
    params = toy(phases=[{"optimizer": "adamw", "lr": 0.001, "epochs": 1}]).model_copy(
        update={"model": model}
    )
    trained = train(params, CHECKPOINT, Path("reports/curves.csv"))
    assert capsys.readouterr().out.startswith("ResNet-18 (CIFAR stem) (11,170,")
    loaded = load_trained(CHECKPOINT)
    assert loaded.model == model
    assert json.loads((CHECKPOINT / "config.json").read_text())["family"] == "resnet"
    _, result = evaluate(params, CHECKPOINT, Path("reports"))
    assert result.values["top1"] == pytest.approx(trained.value)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Path("image.png").write_bytes(encode_png(pixels))
    main(["predict", "image.png", "--device", "cpu"])
    main(["explain", "image.png", "--out", "drawn", "--device", "cpu"])
    assert Path("drawn/image_blocks.png").exists()
    program = torch.export.load(export(CHECKPOINT, "torch", Path("exported"))).module()
    assert program(torch.from_numpy(pixels)[None]).shape == (1, 3)
