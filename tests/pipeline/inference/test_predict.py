"""Raw images of any kind to predictions: the same as training saw, the rest of a batch whatever one file is."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.checkpoints.trained import Trained, load_trained
from pipeline.cli.parser import main
from pipeline.core.errors import UserError
from pipeline.core.source_code import import_closure
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.shards.targets import IGNORE
from pipeline.inference.base64_text import decode_base64
from pipeline.inference.files import find_images, predict_files
from pipeline.inference.predictor import Predictor
from pipeline.inference.results import result_names
from pipeline.models.inputs import normalise
from pipeline.params import Params

CHECKPOINT = Path("checkpoints/best")
RANDOM = np.random.default_rng(0)


def save_image(path: str, height: int, width: int, mode: str = "RGB") -> Path:
    pixels = RANDOM.integers(0, 256, (height, width, 3)).astype(np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return Path(path)


def load() -> Predictor:
    return Predictor.load(CHECKPOINT, torch.device("cpu"))


def test_an_image_of_the_prepared_size_gets_the_networks_own_answer(
    experiment: Callable[..., Params],
) -> None:
    experiment("classification")
    path = save_image("a.png", 12, 16)
    (answer,) = predict_files(load(), [path], 4)
    model, _, trained = load_trained(CHECKPOINT)
    pixels = torch.from_numpy(np.asarray(Image.open(path)).copy())[None]
    with torch.no_grad():
        expected = model(normalise(pixels, trained.mean, trained.std)).softmax(1)[0]
    assert answer.prediction is not None
    assert len(answer.prediction.classes) == 5
    for name, probability in answer.prediction.classes:
        assert probability == pytest.approx(float(expected[trained.class_names.index(name)]), abs=1e-5)
    values = [value for _, value in answer.prediction.classes]
    assert values == sorted(values, reverse=True)


def test_flip_gives_an_image_and_its_mirror_image_the_same_answer(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("classification")
    path = save_image("a.png", 12, 16)
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("mirrored.png")
    answers: dict[str, list[list[float]]] = {}
    for flag in ("--flip", "--top=all"):
        main(["predict", "a.png", "mirrored.png", "--json", "--top", "all", flag])
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        answers[flag] = [
            [one["probability"] for one in sorted(record["classes"], key=lambda one: one["class"])]
            for record in records
        ]
    assert answers["--flip"][0] == pytest.approx(answers["--flip"][1], abs=2e-4)
    assert answers["--top=all"][0] != pytest.approx(answers["--top=all"][1], abs=2e-4)


def test_any_size_and_mode_and_the_rest_of_a_batch_goes_on(experiment: Callable[..., Params]) -> None:
    experiment("classification")
    paths = [
        save_image("a.png", 300, 200),
        save_image("b.png", 3, 5, "L"),
        save_image("c.jpg", 40, 40, "CMYK"),
        Path("no.png"),
        save_image("e.png", 40, 40, "RGBA"),
        save_image("cut.png", 50, 50),
    ]
    paths[-1].write_bytes(paths[-1].read_bytes()[:200])
    Path("no.png").write_text("hello")
    answers = list(predict_files(load(), paths, 2))
    assert [answer.path for answer in answers] == paths
    assert [answer.prediction is not None for answer in answers] == [True, True, True, False, True, False]
    assert str(answers[3].error).startswith("is not an image (decoded are JPEG, ")


def test_a_mask_has_the_images_own_size_and_its_png_holds_train_ids(
    experiment: Callable[..., Params],
) -> None:
    experiment("segmentation")
    predictor = load()
    (answer,) = predict_files(predictor, [save_image("a.png", 31, 45)], 4)
    assert answer.prediction is not None
    assert answer.image is not None
    mask = answer.prediction.mask
    assert mask is not None
    assert mask.shape == (31, 45)
    assert sum(share for _, share in answer.prediction.classes) == pytest.approx(1)
    with Image.open(io.BytesIO(predictor.mask_png(mask))) as stored:
        assert stored.mode == "P"
        assert np.array_equal(np.asarray(stored), mask)
        shown = np.asarray(stored.convert("RGB"))
    assert shown[0, 0].tolist() == list(predictor.palette[mask[0, 0]])
    with Image.open(io.BytesIO(predictor.overlay_png(answer.image, mask))) as overlay:
        assert overlay.size == (45, 31)


def test_center_crop_leaves_what_the_network_did_not_see_ignored(experiment: Callable[..., Params]) -> None:
    experiment("segmentation")
    path = CHECKPOINT / "training.json"
    trained = Trained.model_validate_json(path.read_bytes())
    path.write_text(trained.model_copy(update={"geometry": "center_crop"}).model_dump_json())
    (answer,) = predict_files(
        load(), [save_image("a.png", 12, 32)], 4
    )  # twice as wide as the network's images
    assert answer.prediction is not None
    mask = answer.prediction.mask
    assert mask is not None
    seen = mask != IGNORE
    assert seen[:, 8:24].all()
    assert not seen[:, :8].any()
    assert not seen[:, 24:].any()


def test_names_stand_for_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_image("folder/deep/b.PNG", 2, 2)
    save_image("folder/a.jpg", 2, 2)
    Path("folder/notes.txt").write_text("x")
    assert find_images(["folder"]) == [Path("folder/a.jpg"), Path("folder/deep/b.PNG")]
    assert find_images(["folder/*.jpg", "folder/notes.txt"]) == [
        Path("folder/a.jpg"),
        Path("folder/notes.txt"),
    ]
    assert find_images([str(tmp_path / "folder" / "*.jpg")]) == [tmp_path / "folder" / "a.jpg"]
    Path("empty").mkdir()
    for name, message in (
        ("empty", "no image in this folder"),
        ("gone", "no such file"),
        ("*.gif", "no file"),
    ):
        with pytest.raises(UserError, match=message):
            find_images(["folder", name])


def test_hidden_files_and_folders_called_like_images_are_left_out_as_prepare_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "._a.jpg", ".ipynb_checkpoints/a.png", "__MACOSX/a.png", "d.png/deep.png"):
        Path(".photos", name).parent.mkdir(parents=True, exist_ok=True)
        Path(".photos", name).write_bytes(b"x")
    assert find_images([".photos"]) == [Path(".photos/a.png"), Path(".photos/d.png/deep.png")]
    assert find_images([".photos/._a.jpg"]) == [Path(".photos/._a.jpg")]


def test_no_two_images_share_a_result_and_none_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [
        "a.png",
        "a.jpg",
        "a_jpg.png",
        "A.png",
        "sub/b.png",
        "sub_b.png",
        "../b.png",
        "b",
        "b.png",
        "a.png",
    ]
    paths += ["x" * 250 + ".png", "x" * 249 + "y.png", "猫" * 80 + ".png", "\udcff.png", "\udcfe.png"]
    names = result_names([Path(path) for path in paths], Path("out"))
    assert len(names) == len(set(paths))
    results = [name.casefold() for name in names.values()]
    assert len(set(results)) == len(results)
    assert all(len(os.fsencode(name)) <= 200 and "/" not in name for name in results)
    assert [names[Path(path)] for path in paths[:6]] == [
        "a",
        "a_jpg",
        "a_jpg_png",
        "A_png",
        "sub_b",
        "sub_b_png",
    ]
    beside = result_names([Path("a.png"), Path("a_mask.png")], Path())
    assert beside == {Path("a.png"): "a_png", Path("a_mask.png"): "a_mask"}


def test_names_that_are_not_utf8_or_that_a_terminal_obeys_end_nothing(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("segmentation")
    whole = save_image("whole.png", 20, 30).read_bytes()
    odd = ["\x1b[2Ja.png", "\udcff.png", "b\nc.png"]
    Path("in").mkdir()
    for name in odd:
        Path("in", name).write_bytes(whole)
    Path("in/\x1b]0;bad.png").write_text("no image")
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit, match="1 of 4 files"):
            main(["predict", "in", *options, "--device", "cpu"])
        shown = capsys.readouterr()
        for line in (shown.out + shown.err).splitlines():
            assert line.isprintable()
    records = [json.loads(line) for line in shown.out.splitlines()]
    assert sorted(Path(record["image"]).name for record in records if "mask" in record) == sorted(odd)
    assert all(Path(record["mask"]).is_file() for record in records if "mask" in record)


def test_commands_find_the_repository_from_a_subfolder(
    experiment: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(experiment("segmentation", run=True).model_dump_json())
    save_image("photos/deep/a.png", 20, 30)
    monkeypatch.chdir("photos/deep")
    main(["predict", "a.png", "--device", "cpu", "--out", "masks"])
    assert Path("masks/a_mask.png").is_file()
    main(["runs"])
    assert "toy run" in capsys.readouterr().out
    main(["verify"])
    assert "all 6 shards are whole" in capsys.readouterr().out


def test_predicting_imports_no_reader_and_no_stage() -> None:
    needed = import_closure(
        ["pipeline.inference.files", "pipeline.inference.predictor"], ("pipeline", "wavemix")
    )
    rooms = {name.split(".")[1] if name.count(".") else name for name in needed}
    assert rooms & {"prepare", "fingerprint", "train", "evaluate", "benchmark", "report", "tracking"} == set()
    assert not any(name.startswith("pipeline.data.readers") for name in needed)


def test_base64_as_it_is_and_as_a_data_url() -> None:
    assert decode_base64("aGk=") == b"hi"
    assert decode_base64("data:image/png;base64,aGk=") == b"hi"
    assert decode_base64("aG\r\n k=\n") == b"hi"
    for other in ("not base64!", "aGk", None, float("nan"), 5, b"aGk=", {"a": 1}):
        with pytest.raises(CorruptImageError, match="not base64"):
            decode_base64(other)


def test_command_prints_json_lines_and_says_what_failed(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("segmentation")
    save_image("in/a.png", 20, 30)
    save_image("in/deep/a.png", 20, 30)
    (Path("in") / "bad.png").write_text("x")
    with pytest.raises(SystemExit, match="1 of 3 files are no images"):
        main(["predict", "in", "--json", "--out", "masks", "--device", "cpu"])
    records = {record["image"]: record for record in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(records["in/bad.png"]) == {"image", "error"}
    assert records["in/bad.png"]["error"].startswith("is not an image")
    assert Path(records["in/a.png"]["mask"]).name == "in_a_mask.png"
    assert Path(records["in/deep/a.png"]["overlay"]).is_file()
    assert len(list(Path("masks").iterdir())) == 4


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_table_has_a_row_per_image_and_a_column_per_class(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str], task: str
) -> None:
    experiment(task)
    save_image("in/a.png", 12, 16)
    save_image("in/b,c.png", 12, 16)
    (Path("in") / "bad.png").write_text("x")
    with pytest.raises(SystemExit, match="1 of 3"):
        main(["predict", "in", "--json", "--csv", "out/table.csv", "--top", "2", "--device", "cpu"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with Path("out/table.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["in/a.png", "in/b,c.png", "in/bad.png"]
    assert "not an image" in rows["in/bad.png"]["error"]
    names = load_trained(CHECKPOINT).trained.class_names
    for record in records[:2]:
        row, entries = rows[record["image"]], record.get("classes") or record["shares"]
        assert len(entries) <= 2
        assert row["label"] == entries[0]["class"]
        assert float(row[row["label"]]) == max(float(row[name]) for name in names)
        assert sum(float(row[name]) for name in names) == pytest.approx(1, abs=1e-5)
    assert [path.name for path in Path("out").iterdir()] == ["table.csv"]


def test_all_classes_are_named_where_asked_for(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment("classification")
    save_image("a.png", 12, 16)
    for top, expected in (([], 5), (["--top", "all"], 6), (["--top", "1"], 1)):
        main(["predict", "a.png", "--json", "--device", "cpu", *top])
        assert len(json.loads(capsys.readouterr().out)["classes"]) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", ".", "--top", "0"], "--top 0: it must be a number of classes, at least 1, or all"),
        (["predict", "gone.png"], "no such file or folder"),
        (["predict", ".", "--checkpoint", "reports"], "no trained network here"),
        (["predict", ".", "--batch-size", "0"], "--batch-size 0"),
        (["verify", "tou"], "tou: no such data set"),
        (["paper", "show", "cifar10 64/66"], r"did you mean 'cifar10 64/6'\?"),
    ],
)
def test_mistakes_end_with_one_line(
    experiment: Callable[..., Params], arguments: list[str], message: str
) -> None:
    params = experiment("classification")
    Path("params.yaml").write_text(params.model_dump_json())
    save_image("a.png", 4, 4)
    with pytest.raises(SystemExit, match=message) as stopped:
        main(arguments)
    assert "\n" not in str(stopped.value.code)


def test_verify_says_so_of_whole_and_of_changed_shards(
    experiment: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(experiment("segmentation").model_dump_json())
    main(["verify"])
    assert "all 6 shards are whole, 31 samples" in capsys.readouterr().out
    shard = Path("data/shards/toy/12x16/val-000000.tar")
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SystemExit, match=r"1 of 6 shards are not what was written, first val-000000.tar"):
        main(["verify", "toy"])
