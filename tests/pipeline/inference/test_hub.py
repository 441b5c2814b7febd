"""``wavemix push``: what is sent, and that it can be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard

from pipeline.cli.parser import main
from pipeline.params import Params
from pipeline.plotting.masks import encode_png
from pipeline.train.experiment import train_once

OUT = Path("exports/hub")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the hub was told."""
    calls: list[dict[str, Any]] = []

    def create(_: HfApi, name: str, **options: Any) -> str:
        calls.append({"name": name, **options})
        return "address"

    def upload(_: HfApi, **options: Any) -> None:
        calls.append({**options, "files": {path.name for path in Path(options["folder_path"]).iterdir()}})

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    return calls


@pytest.fixture
def trained(toy: Callable[..., Params]) -> Params:
    params = toy()
    values = json.loads(params.model_dump_json()) | {"machine": {"workers": 7}}
    values["datasets"]["secret"] = values["datasets"]["toy"]
    Path("params.yaml").write_text(f"# mine\n{json.dumps(values)}")
    train_once(params, Path("checkpoints/best"), Path("reports/curves.csv"))
    return params


@pytest.mark.usefixtures("trained")
def test_a_network_is_sent_with_its_card_and_works_from_there(
    sent: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["push", "me/toy", "--licence", "mit", "--private"])
    assert "pushed to address" in capsys.readouterr().out
    made, uploaded = sent
    assert (made["name"], made["private"], made["exist_ok"]) == ("me/toy", True, True)
    assert uploaded["repo_id"] == "me/toy"
    assert uploaded["files"] == {"model.safetensors", "config.json", "training.json", "README.md"}
    card = ModelCard.load(OUT / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "image-classification")
    assert "# WaveMix-Lite 8/2 dropout 0.1, trained on toy" in card.text
    assert re.search(r"batch_size\W+16\b", card.text), "the recipe"
    assert "sizes" in card.text, "how the images were prepared"
    assert "workers" not in card.text, "the machine stays private"
    assert "secret" not in card.text, "so do other datasets"
    Path("a.png").write_bytes(encode_png(np.zeros((20, 20, 3), np.uint8)))
    main(["predict", "a.png", "--checkpoint", str(OUT), "--json", "--device", "cpu"])
    assert json.loads(capsys.readouterr().out)["classes"]


@pytest.mark.usefixtures("trained")
def test_a_dry_run_sends_nothing(sent: list[dict[str, Any]]) -> None:
    main(["push", "me/toy", "--dry-run"])
    assert not sent
    text = (OUT / "README.md").read_text()
    assert "No licence was named for the weights." in text
    assert "license:" not in text


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("own", [True, False])
def test_figures_of_another_network_stay_out(own: bool) -> None:
    described = json.loads(Path("checkpoints/best/training.json").read_text())
    metrics = {
        "val": {"top1": described["value"]},
        "test": {"top1": 0.625, "loss": 1.0},
        "parameters": described["parameters"] + (not own),
        "best_epoch": described["epoch"],
    }
    Path("reports/metrics.json").write_text(json.dumps(metrics))
    main(["push", "me/toy", "--dry-run"])
    assert ("| top-1 on test | 62.50 % |" in (OUT / "README.md").read_text()) is own


@pytest.mark.usefixtures("trained")
def test_without_the_run_the_card_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    main(["push", "me/toy", "--dry-run"])
    assert "warning: the store has no params.yaml of its run" in capsys.readouterr().out
    assert "is not known any more" in (OUT / "README.md").read_text()


@pytest.mark.usefixtures("trained")
def test_a_hub_that_refuses_gets_one_line_and_the_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("401 Client Error\nwith token hf_secret")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(SystemExit, match="log in by `hf auth login` or set HF_TOKEN") as ended:
        main(["push", "me/toy"])
    assert "\n" not in str(ended.value.code)
    assert (OUT / "README.md").exists()


@pytest.mark.parametrize("name", ["toy", "me/../toy", "a/b/c", "me/to y"])
def test_a_name_that_cannot_be_is_refused_first(toy: Callable[..., Params], name: str) -> None:
    toy()
    with pytest.raises(SystemExit, match="push: "):
        main(["push", name])
    assert not OUT.exists()
