"""Segmentation at the labels' own size: against torchmetrics, a toy counted by hand, and files that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchmetrics.segmentation import MeanIoU

from pipeline.checkpoints.trained import describe, load_trained, save_trained
from pipeline.core.errors import UserError
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.evaluation import evaluation_batches
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.fingerprint import fingerprint, fingerprint_file, write_fingerprint
from pipeline.data.raw.listing import Sample
from pipeline.data.readers.cityscapes import CLASSES
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import read_manifest
from pipeline.data.shards.targets import IGNORE
from pipeline.evaluate import evaluation
from pipeline.evaluate.evaluation import evaluate
from pipeline.evaluate.metrics.base import Measurement
from pipeline.evaluate.metrics.full_resolution import FullResolution, raw_samples
from pipeline.fingerprint.raw_files import acquire
from pipeline.models.inputs import normalise
from pipeline.params import Params, parse_params
from pipeline.prepare.preparation import prepare
from pipeline.tasks.network import build_network, network_spec
from pipeline.tasks.segmentation import full_size_mask

RAW, SIZE = (24, 40), (12, 16)
FRAMES = {"train": 2, "val": 5}
ID_OF = np.full(256, 0, np.uint8)
ID_OF[:19] = [label_id for label_id, _, _ in CLASSES]


def write_scenes(root: Path) -> None:
    """Random scenes in Cityscapes' layout, a fifth of each label file void."""
    generator = np.random.default_rng(0)
    for split, count in FRAMES.items():
        for number in range(count):
            train_ids = generator.integers(0, 19, (3, 5)).repeat(8, 0).repeat(8, 1)
            labels = ID_OF[train_ids]
            labels[generator.random(RAW) < 0.2] = 0
            pixels = generator.integers(0, 256, (*RAW, 3)).astype(np.uint8)
            for folder, end, content in (
                ("leftImg8bit", "leftImg8bit", pixels),
                ("gtFine", "gtFine_labelIds", labels),
            ):
                path = root / folder / split / "town" / f"town_{number:06d}_000019_{end}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Params]:
    """Prepare raw scenes, the third of val with a label file of another size, and a network for them."""

    def make(geometry: str = "squash") -> Params:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(evaluation, "log", lambda *_: None)
        Path("dvc.yaml").touch()
        root = tmp_path / "data/raw/toy"
        write_scenes(root)
        odd = root / "gtFine/val/town/town_000002_000019_gtFine_labelIds.png"
        Image.fromarray(np.zeros((7, 9), np.uint8)).save(odd)
        dataset = {
            "reader": "cityscapes",
            "sizes": [list(SIZE)],
            "geometry": geometry,
            "samples_per_shard": 2,
        }
        params = parse_params(
            {
                "data": "toy",
                "datasets": {"toy": {**dataset, "max_corrupt": 5}},
                "model": {"dim": 8, "depth": 1, "stem_stride": 2},
                "train": {"batch_size": 3, "amp": "off", "phases": [{"optimizer": "adamw", "epochs": 1}]},
                "machine": {"workers": 1},
            }
        )
        write_fingerprint(
            fingerprint("toy", acquire("toy", params.dataset, str(root))), fingerprint_file("toy")
        )
        (manifest,) = prepare("toy", params)
        torch.manual_seed(0)
        network = build_network(params, manifest).eval()
        trained = describe(manifest, parameters=1, epoch=1, step=1, metric="val/miou", value=0.1, run_id=None)
        spec = network_spec(params, manifest)
        save_trained(network, params.model, spec, trained, Path("checkpoints/best"))
        return params

    return make


@pytest.mark.parametrize("geometry", ["squash", "center_crop"])
def test_figures_are_torchmetrics_own(
    scenes: Callable[..., Params], geometry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    params = scenes(geometry)
    _, measured = evaluate(params, Path("checkpoints/best"), Path("reports"))
    folder = shards_folder("toy", SIZE)
    manifest = read_manifest(folder)
    model = load_trained(Path("checkpoints/best")).network
    batches = list(evaluation_batches(folder, manifest, "val", 9))
    with torch.no_grad():
        parts = [model(normalise(batch.image, manifest.mean, manifest.std)) for batch in batches]
    logits = torch.cat(parts)[:, :19]
    # Squashed: the whole 24x40 is the network's 12x16. Cropped: its centre of the shape 12:16 is 24x32.
    left, width = (0, 40) if geometry == "squash" else (4, 32)
    predicted = F.interpolate(logits, (24, width), mode="bilinear").argmax(1)
    train_id = {int(ID_OF[i]): i for i in range(19)}
    truth = []
    names = [sample.name for sample in raw_samples(params, manifest, "val")[0]]
    assert names != sorted(names)
    for name in names:
        path = "data/raw/toy/gtFine/" + name.replace("leftImg8bit", "gtFine_labelIds")
        ids = np.asarray(Image.open(path))[:, left : left + width]
        truth.append(torch.tensor([[train_id.get(int(i), IGNORE) for i in row] for row in ids]))
    target = torch.stack(truth)
    counted = target != IGNORE
    # torchmetrics has no ignored pixels here: make them a class of their own in both, and leave it out.
    iou = MeanIoU(num_classes=20, include_background=True, per_class=True, input_format="index")
    both = [torch.where(counted, mask, 19).reshape(1, -1) for mask in (predicted, target)]
    per_class = iou(*both)[:19]
    figures = measured.values
    present = [i for i in range(19) if (both[0] == i).any() or (both[1] == i).any()]
    assert figures["miou_original"] == pytest.approx(float(per_class[present].mean()), abs=1e-6)
    hits = (predicted == target)[counted].float().mean()
    assert figures["pixel_accuracy_original"] == pytest.approx(float(hits), abs=1e-6)
    assert "miou_original" in json.loads(Path("reports/metrics.json").read_text())["val"]
    assert "labels' own size" not in capsys.readouterr().out
    named = manifest.split("val").left_out
    assert [entry.reason for entry in named] == ["mask is 9x7 pixels, its image 40x24"]


def test_two_ranks_count_what_one_does(scenes: Callable[..., Params]) -> None:
    params = scenes()
    manifest = read_manifest(shards_folder("toy", SIZE))
    cpu = torch.device("cpu")
    shares = [FullResolution.open(Measurement(params, manifest, "val", cpu, rank, 2)) for rank in (0, 1)]
    names = [sample.name for share in shares if share for sample in share.samples]
    whole, _ = raw_samples(params, manifest, "val")
    assert sorted(names) == sorted(sample.name for sample in whole)
    assert len(names) == 4


def test_raw_files_that_are_gone_or_others_are_said(
    scenes: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    params = scenes()
    extra = Path("data/raw/toy/leftImg8bit/val/town/more.png")
    extra.write_bytes(b"more")
    _, measured = evaluate(params, Path("checkpoints/best"), Path("reports"))
    assert "miou_original" not in measured.values
    assert "are not those that the shards were made of" in capsys.readouterr().out
    Path("data/raw").rename("data/elsewhere")
    with pytest.raises(UserError, match="the raw files are not in"):
        raw_samples(params, read_manifest(shards_folder("toy", SIZE)), "val")
    evaluate(params, Path("checkpoints/best"), Path("reports"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "own size" in line]
    assert line.startswith("val: no mIoU at the labels' own size: the raw files are not in ")


def test_a_label_file_that_changed_is_one_line_and_the_rest_counts(
    scenes: Callable[..., Params], tmp_path: Path
) -> None:
    params = scenes()
    manifest = read_manifest(shards_folder("toy", SIZE))
    original = FullResolution.open(Measurement(params, manifest, "val", torch.device("cpu")))
    assert original is not None
    small = tmp_path / "small.png"
    Image.fromarray(np.full((7, 9), 7, np.uint8)).save(small)
    blob = Blob(str(small), 0, small.stat().st_size)
    original.samples[1] = Sample("val/small.png", original.samples[1].image, blob)
    logits = torch.randn(4, 20, *SIZE)
    original.on_batch(Batch(torch.zeros(0), torch.zeros(0)), logits)
    assert original.left_out == ["val/small.png: the label file is 7 pixels high, the images 24 to 24"]
    assert 0 < int(original.metrics._counts.sum()) == 3 * 24 * 40


def test_enlarged_by_hand() -> None:
    """Two classes over two pixels in a row, logits (3, 0) and (0, 1), enlarged to four.

    Pixel centres lie at 0, 1/4, 3/4, 1 of the way: class 0 has 3, 2.25, 0.75, 0, class 1 has 0, 0.25, 0.75, 1;
    where they are equal the first class wins.
    """
    logits = torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])
    assert full_size_mask(logits, (1, 4), "squash").tolist() == [[0, 0, 0, 1]]
    assert full_size_mask(logits, (1, 6), "center_crop").tolist() == [[IGNORE, IGNORE, 0, 1, IGNORE, IGNORE]]
