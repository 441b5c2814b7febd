"""Places that a command is told to write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.outputs import output_file, output_folder
from pipeline.cli.parser import main


def test_a_new_place_and_an_old_file_are_taken(tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.touch()
    assert output_file(str(old)) == old
    assert output_file(str(tmp_path / "new/table.csv")) == tmp_path / "new/table.csv"
    assert output_folder(str(tmp_path / "a/b")) == tmp_path / "a/b"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "a.png", "--csv", "folder"], "--csv: folder is a folder; name a file"),
        (["predict", "a.png", "--csv", "file/table.csv"], "is no folder"),
        (["predict", "a.png", "--csv", "dangling/table.csv"], "is no folder"),
        (["predict", "a.png", "--out", "file"], "is no folder"),
        (["predict", "a.png", "--out", "file/below/it"], "is no folder"),
        (["explain", "a.png", "--out", "file"], "is no folder"),
        (["export", "--out", "file"], "is no folder"),
        (["push", "me/it", "--out", "file"], "is no folder"),
        (["compare", "--out", "file"], "is no folder"),
        (["search", "--out", "file"], "is no folder"),
        (["explain", "a.png"], "predictions is no folder"),
        (["export"], "exports is no folder"),
        (["push", "me/it"], "exports is no folder"),
        (["search"], "reports is no folder"),
        (["export", "--out", "/proc/1/exports"], "may not be written into"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    names = ("file", "predictions", "exports", "reports")
    for name in names:
        Path(name).touch()
    Path("dangling").symlink_to("nowhere")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["dangling", "folder", *names])
