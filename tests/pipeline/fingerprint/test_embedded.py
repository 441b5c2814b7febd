"""The data that comes with the project: genuine layouts, held-out digits that are in no other split."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.core.errors import UserError
from pipeline.fingerprint import embedded, raw_files
from pipeline.fingerprint.raw_files import acquire
from tests.pipeline.workshop import Workshop, wait_for


def test_digits_are_scikit_learns_each_in_one_split(workshop: Workshop) -> None:
    workshop.raw.rmdir()
    manifest = workshop.prepare(source="digits", channels=1)[0]
    assert {name: split.samples for name, split in manifest.splits.items()} == {
        "train": 1257,
        "val": 180,
        "test": 360,
    }
    digits = load_digits()
    seen = []
    for path in workshop.raw.rglob("*.png"):
        index = int(path.stem)
        assert path.parent.name == str(digits.target[index])
        levels = np.asarray(Image.open(path)) * (16 / 255)
        np.testing.assert_allclose(levels, digits.images[index], atol=0.04)
        seen.append(index)
    assert sorted(seen) == list(range(1797))
    for split in manifest.splits.values():
        counts = np.array(split.histogram) / split.samples
        assert np.abs(counts - 0.1).max() < 0.01  # stratified


def test_digit_scenes_are_read_by_the_cityscapes_reader(workshop: Workshop) -> None:
    workshop.raw.rmdir()
    manifest = workshop.prepare(
        source="digit_scenes", reader="cityscapes", sizes=[[64, 128]], options={"test": True}
    )[0]
    assert {name: split.samples for name, split in manifest.splits.items()} == embedded.SCENES
    drawn = {"road", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}
    drawn |= {"traffic light", "traffic sign"}
    for split in manifest.splits.values():
        present = {name for name, n in zip(manifest.class_names, split.histogram, strict=True) if n}
        assert present == drawn
        pixels = split.samples * 64 * 128
        assert 0.6 < split.histogram[0] / pixels < 0.95  # road
        assert 0.01 < split.ignored_pixels / pixels < 0.1  # outlines


def test_no_digit_is_drawn_in_two_splits() -> None:
    parts = [indices for _, _, indices in embedded.digit_splits().values()]
    assert len(np.unique(np.concatenate(parts))) == sum(len(part) for part in parts) == 1797


def test_scenes_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        embedded.write_digit_scenes(tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png")]
    assert len(files) == 2 * sum(embedded.SCENES.values())
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_a_root_appears_whole_or_not_at_all(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        (root / "train").mkdir()
        raise UserError("played")

    workshop.raw.rmdir()
    monkeypatch.setitem(raw_files.EMBEDDED, "digits", fail)
    with pytest.raises(UserError, match="played"):
        acquire("own", workshop.params(source="digits").named("own"), str(workshop.raw))
    assert [path.name for path in workshop.folder.iterdir()] == [".work"]  # of the lock


def test_two_that_find_it_missing_at_once_write_it_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get() -> int:
        return len(acquire("own", workshop.params(source="digits").named("own"), str(workshop.raw)))

    others: list[Future[int]] = []

    def write(root: Path) -> None:
        others.append(pool.submit(get))
        wait_for(lambda: "waiting for process" in capsys.readouterr().out)
        embedded.write_digits(root)

    workshop.raw.rmdir()
    monkeypatch.setitem(raw_files.EMBEDDED, "digits", write)
    with ThreadPoolExecutor(1) as pool:
        assert get() == 1797
    assert [other.result() for other in others] == [1797]
