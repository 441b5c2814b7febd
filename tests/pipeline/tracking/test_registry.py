"""Registered networks: found again, promoted by validation alone, and served to a real HTTP client."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.checkpoints.trained import Trained, load_trained, save_trained
from pipeline.core.errors import UserError
from pipeline.inference.base64_text import encode_base64
from pipeline.inference.packaging import served_network
from pipeline.models import NetworkSpec, build_network, parse_model
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.tracking.client import connect
from pipeline.tracking.registry import fetch_checkpoint, register_network

CHECKPOINT = Path("checkpoints/best")
IMAGE = encode_png(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))


def register(uri: str, **changes: Any) -> str:
    described = Trained.model_validate_json((CHECKPOINT / "training.json").read_bytes())
    trained = described.model_copy(update=changes)
    assert trained.run_id is not None
    return register_network(connect(uri), trained.run_id, served_network(CHECKPOINT, trained, [IMAGE, IMAGE]))


def test_only_a_better_validation_is_promoted(experiment: Callable[..., Params], tmp_path: Path) -> None:
    experiment("classification", run=True)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert register(uri, step=1, value=0.5).endswith("version 1; it is the new @champion (val/top1 0.5000)")
    assert "stays version 1: val/top1 0.5000, this one val/top1 0.4000" in register(uri, step=2, value=0.4)
    assert "stays version 1" in register(uri, step=3, value=0.5)  # no better
    assert register(uri, step=4, value=0.6).endswith("version 4; it is the new @champion (val/top1 0.6000)")
    assert register(uri, step=4, value=0.6).endswith(
        "version 4; it is @champion (val/top1 0.6000)"
    )  # no version 5
    assert len(connect(uri).search_model_versions("name = 'wavemix-lite-toy'")) == 4

    found = fetch_checkpoint(uri, model="wavemix-lite-toy@champion")
    assert (found / "model.safetensors").read_bytes() == (CHECKPOINT / "model.safetensors").read_bytes()
    for run, model, message in (
        (None, "wavemix-lite-toy@queen", "model 'wavemix"),
        ("f00", None, "run 'f00'"),
    ):
        with pytest.raises(UserError, match=message):
            fetch_checkpoint(uri, run=run, model=model)

    import mlflow

    images = pd.DataFrame({"image": [encode_base64(IMAGE), "AAAA"]})
    table = mlflow.pyfunc.load_model("models:/wavemix-lite-toy@champion").predict(images)
    assert table["label"][0] == table["classes"][0][0]
    assert table["label"][1] is None
    assert table["error"][0] is None
    assert table["error"][1].startswith("image 1: is not an image")


@pytest.mark.parametrize(
    ("model", "library"),
    [
        ({"family": "resnet", "depth": 18, "stem": "cifar"}, None),
        ({"family": "vit", "dim": 16, "depth": 1, "heads": 2}, "timm"),
        ({"family": "cct", "dim": 16, "depth": 1, "heads": 2}, "vit-pytorch"),
    ],
    ids=lambda value: value["family"] if isinstance(value, dict) else "",
)
def test_a_network_of_another_library_is_served_and_asks_for_that_library(
    experiment: Callable[..., Params], tmp_path: Path, model: dict[str, Any], library: str | None
) -> None:
    experiment("classification", run=True)
    trained = load_trained(CHECKPOINT).trained
    family = parse_model(model)
    spec = NetworkSpec(
        spatial=False, outputs=len(trained.class_names), channels=trained.channels, size=trained.size
    )
    shutil.rmtree(CHECKPOINT)
    save_trained(build_network(family, spec), family, spec, trained, CHECKPOINT)
    register(f"sqlite:///{tmp_path / 'mlflow.db'}")
    import mlflow

    served = mlflow.pyfunc.load_model("models:/wavemix-lite-toy@champion")
    table = served.predict(pd.DataFrame({"image": [encode_base64(IMAGE)]}))
    assert table["error"][0] is None
    assert table["label"][0] in trained.class_names
    folder = Path(mlflow.artifacts.download_artifacts("models:/wavemix-lite-toy@champion", dst_path="model"))
    required = (folder / "requirements.txt").read_text()
    for name in ("timm", "vit-pytorch", "segmentation-models-pytorch"):
        assert (f"{name}==" in required) == (name == library), required


def test_the_logged_model_answers_with_its_own_code_alone(
    experiment: Callable[..., Params], tmp_path: Path
) -> None:
    experiment("classification", run=True)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    register(uri)
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts("models:/wavemix-lite-toy@champion", dst_path="model"))
    for package in ("data/readers", "prepare", "train", "evaluate", "report", "tracking", "cli"):
        assert not (folder / "code/pipeline" / package).exists(), package
    answer = (
        "import sys, mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model('model')\n"
        "import pipeline, wavemix\n"
        "assert all('/model/code/' in package.__file__ for package in (pipeline, wavemix))\n"
        "print(model.predict(pandas.DataFrame({'image': [sys.argv[1]]}))['label'][0])\n"
    )
    # -P: the checkout is on no path of that process but that of the editable installation, which comes last
    done = subprocess.run(
        [sys.executable, "-P", "-c", answer, encode_base64(IMAGE)], capture_output=True, text=True, check=True
    )
    assert (
        done.stdout.strip()
        in Trained.model_validate_json((CHECKPOINT / "training.json").read_bytes()).class_names
    )


@pytest.mark.slow
def test_serves_a_mask_over_http(experiment: Callable[..., Params], tmp_path: Path) -> None:
    experiment("segmentation", run=True)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    register(uri)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/wavemix-lite-toy@champion"]
    server = subprocess.Popen(
        [*serve, "--env-manager", "local", "-p", str(port)],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        body = json.dumps({"dataframe_records": [{"image": encode_base64(IMAGE)}]}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        (row,) = json.load(urllib.request.urlopen(request, timeout=60))["predictions"]
    finally:
        os.killpg(server.pid, 15)
        server.wait()
    assert row["error"] is None
    assert sum(row["shares"]) == pytest.approx(1)
    assert len(row["mask"]) > 100
