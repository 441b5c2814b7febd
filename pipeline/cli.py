"""``wavemix``: use what was trained. ``wavemix COMMAND --help`` explains each command with examples."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, run_stage

# Each command imports what it needs when it runs: `wavemix --help` should not wait for torch.


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    options = build_parser().parse_args(arguments)
    run_stage(lambda: options.run(options))


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="wavemix",
        description="Use the networks that `dvc repro` trains, and the rows of the WaveMix-Lite paper.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(commands)
    _add_explain(commands)
    _add_export(commands)
    _add_paper(commands)
    _add(
        commands, "runs", _runs, "list the runs in the MLflow store", "  wavemix runs\n  wavemix runs digits"
    ).add_argument("data", nargs="?", help="only runs on this data set")
    verify = _add(
        commands,
        "verify",
        _verify,
        "read all prepared shards again and compare them with their manifest",
        "  wavemix verify\n  wavemix verify cifar10",
    )
    verify.add_argument("data", nargs="?", help="a data set of params.yaml (default: the one under data:)")
    return parser


def _add(commands: Any, name: str, run: Any, summary: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Which network: at most one of three options."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="a folder on disk (default: checkpoints/best)"
    )
    source.add_argument("--run", dest="run_id", metavar="ID", help="the network of this MLflow run")
    source.add_argument(
        "--model", metavar="NAME@ALIAS", help="a registered model: NAME@champion, or NAME/VERSION"
    )


def _add_predict(commands: Any) -> None:
    predict = _add(
        commands,
        "predict",
        _predict,
        "say what is in images (the likeliest classes), or where (masks and overlays)",
        "  wavemix predict photo.jpg\n"
        "  wavemix predict data/raw/digits/val 'more/*.png' --json > answers.jsonl\n"
        "  wavemix predict street.png --model wavemix-lite-camvid@champion --out masks",
    )
    predict.add_argument(
        "images", nargs="+", help="image files, folders (all images below), or glob patterns"
    )
    _add_network(predict)
    predict.add_argument("--json", action="store_true", help="one JSON object per image on stdout, no table")
    predict.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder for masks and overlays (default: predictions); classification writes nothing",
    )
    predict.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _add_explain(commands: Any) -> None:
    explain = _add(
        commands,
        "explain",
        _explain,
        "draw what the network sees in images: its maps after each block, and where it looks (the paper's "
        "Figures 3 and 4)",
        "  wavemix explain photo.jpg --out explained",
    )
    explain.add_argument(
        "images", nargs="+", help="image files, folders (all images below), or glob patterns"
    )
    _add_network(explain)
    explain.add_argument(
        "--out", type=Path, default=Path("predictions"), metavar="DIR", help="folder for pictures"
    )
    explain.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _add_export(commands: Any) -> None:
    export = _add(
        commands,
        "export",
        _export,
        "write the network as a file for other runtimes: uint8 pixels (B, H, W, C) in, logits out",
        "  wavemix export --format onnx\n  wavemix export --format torch --model wavemix-lite-digits@champion",
    )
    _add_network(export)
    export.add_argument(
        "--format",
        choices=("onnx", "torch", "safetensors"),
        default="onnx",
        help="ONNX (the default), torch.export's .pt2, or the checkpoint's own files",
    )
    export.add_argument(
        "--out",
        type=Path,
        default=Path("exports"),
        metavar="DIR",
        help="folder to write to (default: exports)",
    )


def _add_paper(commands: Any) -> None:
    paper = commands.add_parser("paper", help="the rows of the paper's tables: list, show, use")
    actions = paper.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _add(
        actions, "list", _paper_list, "list all rows", "  wavemix paper list\n  wavemix paper list --table 9"
    )
    listing.add_argument("--table", type=int, help="only rows of this table")
    show = _add(actions, "show", _paper_show, "show a row", "  wavemix paper show 'cifar10 64/6'")
    show.add_argument("row", help="its name, as in the list")
    use = _add(
        actions,
        "use",
        _paper_use,
        "write a row's data, model and image size into params.yaml, keeping its comments",
        "  wavemix paper use 'cifar10 64/6'\n  wavemix paper use 'cifar10 64/6' --recipe && uv run dvc repro",
    )
    use.add_argument("row", help="its name, as in the list")
    use.add_argument("--recipe", action="store_true", help="also the paper's two phases of training")


def _network_folder(options: argparse.Namespace) -> Path:
    if options.run_id is None and options.model is None:
        return options.checkpoint or Path("checkpoints/best")
    from pipeline.registry import fetch_checkpoint

    return fetch_checkpoint(_store(), run=options.run_id, model=options.model)


def _store() -> str:
    from pipeline.params import load_params
    from pipeline.tracking import tracking_uri

    return tracking_uri(load_params())


def _predict(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from pipeline.machine import choose_device
    from pipeline.predict import Answer, Predictor, as_record, find_images, predict_files

    if options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: it must be at least 1")
    paths = find_images(options.images)
    predictor = Predictor.load(_network_folder(options), choose_device(options.device))

    def written(answer: Answer) -> dict[str, Any]:
        record = as_record(answer)
        if answer.image is not None and answer.prediction is not None and answer.prediction.mask is not None:
            files = {
                "mask": predictor.mask_png(answer.prediction.mask),
                "overlay": predictor.overlay_png(answer.image, answer.prediction.mask),
            }
            for kind, content in files.items():
                path = options.out / f"{_flat_name(answer.path)}_{kind}.png"
                path.write_bytes(content)
                record[kind] = str(path)
        return record

    if predictor.trained.task == "segmentation":
        options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    bar = tqdm(total=len(paths), unit="img", disable=len(paths) <= options.batch_size)
    with bar:
        for answer in predict_files(predictor, paths, options.batch_size):
            record = written(answer)
            failed += "error" in record
            with bar.external_write_mode():
                _print_record(record, options.json)
            bar.update()
    _end(failed, len(paths))


def _explain(options: argparse.Namespace) -> None:
    from pipeline.explain import explain
    from pipeline.figures import save
    from pipeline.machine import choose_device
    from pipeline.predict import Predictor, find_images
    from pipeline.resize import CorruptImageError

    paths = find_images(options.images)
    predictor = Predictor.load(_network_folder(options), choose_device(options.device))
    failed = 0
    for path in paths:
        try:
            opened = predictor.open(path.read_bytes())
        except (CorruptImageError, OSError) as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr)
            continue
        for kind, figure in explain(predictor, opened).items():
            print(save(figure, options.out / f"{_flat_name(path)}_{kind}.png"))
    _end(failed, len(paths))


def _end(failed: int, files: int) -> None:
    if failed:
        raise UserError(f"{failed} of {files} files are no images that can be read, see above")


def _print_record(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
    elif "error" in record:
        print(f"{record['image']}: {record['error']}", file=sys.stderr)
    else:
        entries = [
            (entry["class"], list(entry.values())[1]) for entry in record.get("classes") or record["shares"]
        ]
        print(f"{record['image']}:  " + "  ".join(f"{name} {100 * value:.1f} %" for name, value in entries))
        for kind in ("mask", "overlay"):
            if kind in record:
                print(f"    {kind}: {record[kind]}")


def _flat_name(path: Path) -> str:
    """A file name for what belongs to ``path``, unlike that of any other path."""
    parts = [part for part in path.with_suffix("").parts if part not in (path.anchor, "..", ".")]
    return "_".join(parts)


def _export(options: argparse.Namespace) -> None:
    from pipeline.export import export

    path = export(_network_folder(options), options.format, options.out)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _paper_list(options: argparse.Namespace) -> None:
    from pipeline.paper import FIGURES, figure, tables
    from wavemix import paper_rows

    rows = paper_rows().values()
    for row in rows:
        if options.table is None or any(reported["table"] == options.table for reported in row.reported):
            metric, value = figure(row)
            print(
                f"{row.name:<42} table {tables(row):<6} {row.parameters:>12,} parameters"
                f"  {FIGURES[metric]} {value:5.2f}"
            )


def _paper_show(options: argparse.Namespace) -> None:
    from pipeline.paper import describe_row, find_row

    print(describe_row(find_row(options.row)))


def _paper_use(options: argparse.Namespace) -> None:
    from pipeline.paper import find_row, use

    changes = use(find_row(options.row), recipe=options.recipe)
    print("\n".join(changes) if changes else "params.yaml already says so")
    if changes:
        print("params.yaml is written; `uv run dvc repro` trains it")


def _runs(options: argparse.Namespace) -> None:
    from pipeline.runs import list_runs

    runs = [run for run in list_runs(_store()) if options.data in (None, run.data)]
    if not runs:
        raise UserError("no runs in the store yet; `uv run dvc repro` makes one")
    for run in runs:
        value = run.held_out("miou") if run.held_out("miou") is not None else run.held_out("top1")
        figure = "      –" if value is None else f"{100 * value:6.2f}%"
        print(
            f"{run.id}  {run.started:%Y-%m-%d %H:%M}  {run.data:<14} {figure}  {run.status.lower():<9} {run.name}"
        )


def _verify(options: argparse.Namespace) -> None:
    from pipeline.params import load_params
    from pipeline.paths import shards_folder
    from pipeline.verify import verify

    params = load_params()
    data = options.data or params.data
    if data not in params.datasets:
        raise UserError(f"{data}: no such data set in params.yaml, there are {', '.join(params.datasets)}")
    for size in params.datasets[data].sizes:
        print(verify(shards_folder(data, size)))
