"""The commands that use what was trained, given their options.

Each imports what it needs when it runs: `wavemix --help` should not wait for torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError, one_line, printable
from pipeline.core.paths import project_folder


def _network_folder(options: argparse.Namespace) -> Path:
    if options.run_id is None and options.model is None:
        return options.checkpoint or project_folder() / "checkpoints/best"
    from pipeline.tracking.registry import fetch_checkpoint

    return fetch_checkpoint(_store(), run=options.run_id, model=options.model)


def _store() -> str:
    from pipeline.params import load_params
    from pipeline.tracking.names import tracking_uri

    return tracking_uri(load_params(project_folder() / "params.yaml"))


def predict(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from pipeline.core.device import choose_device
    from pipeline.data.shards.targets import TARGETS
    from pipeline.inference.files import Answer, as_record, find_images, predict_files
    from pipeline.inference.predictor import Predictor
    from pipeline.inference.results import result_names
    from pipeline.inference.table import prediction_table

    if options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: it must be at least 1")
    top = _top(options.top)
    paths = find_images(options.images)
    names = result_names(paths, options.out)
    needed = sys.maxsize if options.csv else top  # the table has a column for every class
    device, way = choose_device(options.device), {"flip": options.flip, "tile": options.tile}
    predictor = Predictor.load(_network_folder(options), device, needed, **way)

    def written(answer: Answer) -> dict[str, Any]:
        record = as_record(answer, predictor.task, top)
        if answer.image is not None and answer.prediction is not None and answer.prediction.mask is not None:
            files = {
                "mask": predictor.mask_png(answer.prediction.mask),
                "overlay": predictor.overlay_png(answer.image, answer.prediction.mask),
            }
            for kind, content in files.items():
                path = options.out / f"{names[answer.path]}_{kind}.png"
                path.write_bytes(content)
                record[kind] = str(path)
        return record

    if TARGETS[predictor.trained.task].spatial:
        options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    bar = tqdm(total=len(paths), unit="img", disable=len(paths) <= options.batch_size)
    table = prediction_table(options.csv, predictor.trained)
    with table as write_row, bar:
        for answer in predict_files(predictor, paths, options.batch_size):
            write_row(answer)
            record = written(answer)
            failed += "error" in record
            with bar.external_write_mode():
                _print_record(record, options.json)
            bar.update()
    _end(failed, len(paths))


def _top(value: str | None) -> int | None:
    """Return what --top asks for; None where it is not given."""
    if value is None:
        return None
    if value == "all":
        return sys.maxsize
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise UserError(f"--top {value}: it must be a number of classes, at least 1, or all")
    return int(value)


def explain(options: argparse.Namespace) -> None:
    from pipeline.core.device import choose_device
    from pipeline.data.imaging.decode import CorruptImageError
    from pipeline.inference.explanation import explain
    from pipeline.inference.files import find_images
    from pipeline.inference.predictor import Predictor
    from pipeline.inference.results import result_names
    from pipeline.plotting.style import save
    from pipeline.tracking.registry import fetch_checkpoint

    paths = find_images(options.images)
    names = result_names(paths, options.out)
    device = choose_device(options.device)
    predictor = Predictor.load(_network_folder(options), device)
    beside = None
    if options.beside is not None:
        beside = Predictor.load(fetch_checkpoint(_store(), run=options.beside), device)
    failed = 0
    for path in paths:
        try:
            drawn = explain(predictor, path.read_bytes(), beside)
        except (CorruptImageError, OSError) as error:
            failed += 1
            print(f"{printable(str(path))}: {one_line(error)}", file=sys.stderr)
            continue
        for kind, figure in drawn.items():
            print(printable(str(save(figure, options.out / f"{names[path]}_{kind}.png"))))
    _end(failed, len(paths))


def _end(failed: int, files: int) -> None:
    if failed:
        raise UserError(f"{failed} of {files} files are no images that can be read, see above")


def _print_record(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record))  # in ASCII: a name's bytes that are not UTF-8 stay what they are
    elif "error" in record:
        print(printable(f"{record['image']}: {record['error']}"), file=sys.stderr)
    else:
        entries = [
            (entry["class"], list(entry.values())[1]) for entry in record.get("classes") or record["shares"]
        ]
        values = "  ".join(f"{name} {100 * value:.1f} %" for name, value in entries)
        print(printable(f"{record['image']}:  {values}"))
        for kind in ("mask", "overlay"):
            if kind in record:
                print(printable(f"    {kind}: {record[kind]}"))


def export(options: argparse.Namespace) -> None:
    from pipeline.inference.exporting import export

    path = export(_network_folder(options), options.format, options.out)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def push(options: argparse.Namespace) -> None:
    from pipeline.checkpoints.trained import load_trained
    from pipeline.inference.hub import check_repository, push, write_repository
    from pipeline.tracking.registry import fetch_params

    check_repository(options.repository)
    checkpoint = _network_folder(options)
    run = load_trained(checkpoint).trained.run_id
    params = fetch_params(_store(), run) if run is not None else None
    folder = write_repository(checkpoint, options.repository, options.out, options.licence, params)
    print(f"{printable(str(folder))}: weights, config, description and the card, README.md")
    if params is None:
        print("warning: the store has no params.yaml of its run, so the card does not say how it was made")
    if options.dry_run:
        return
    print(f"pushed to {push(folder, options.repository, private=options.private)}")


def runs(options: argparse.Namespace) -> None:
    from pipeline.tracking.store import list_runs

    runs = [run for run in list_runs(_store()) if options.data in (None, run.data)]
    if not runs:
        raise UserError("no runs in the store yet; `uv run dvc repro` makes one")
    for run in runs:
        value = run.held_out("miou") if run.held_out("miou") is not None else run.held_out("top1")
        shown = "      –" if value is None else f"{100 * value:6.2f}%"
        when = f"{run.started:%Y-%m-%d %H:%M}"
        print(printable(f"{run.id}  {when}  {run.data:<14} {shown}  {run.status.lower():<9} {run.name}"))


def verify(options: argparse.Namespace) -> None:
    from pipeline.data.shards.layout import shards_folder
    from pipeline.data.shards.verify import verify
    from pipeline.params import load_params

    os.chdir(project_folder())
    params = load_params()
    data = options.data or params.data
    if data not in params.datasets:
        raise UserError(f"{data}: no such data set in params.yaml, there are {', '.join(params.datasets)}")
    for size in params.datasets[data].sizes:
        print(verify(shards_folder(data, size)))


def doctor(_options: argparse.Namespace) -> None:
    from pipeline.cli.doctor import doctor

    if problems := doctor():
        print("\n".join(map(printable, problems)), file=sys.stderr)
        raise SystemExit(1)
