"""``wavemix``: use what was trained. ``wavemix COMMAND --help`` explains each command with examples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import shtab

from pipeline.cli import commands
from pipeline.cli.options import add_command
from pipeline.cli.outputs import output_file, output_folder
from pipeline.cli.study_options import add_compare, add_paper, add_search
from pipeline.core.process import run_stage

DISTRIBUTION = "wavemix-lite-pipeline"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script."""
    options = build_parser().parse_args(arguments)
    run_stage(lambda: options.run(options))


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from a folder of sources
        return "of a checkout that is not installed"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="wavemix",
        description="Use the networks that `dvc repro` trains, and the rows of the WaveMix-Lite paper.",
    )
    parser.add_argument("--version", action="version", version=f"wavemix {_version()}")
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(group)
    _add_explain(group)
    _add_export(group)
    _add_push(group)
    add_paper(group)
    add_compare(group)
    add_search(group)
    add_command(
        group,
        "runs",
        commands.runs,
        "list the runs in the MLflow store",
        "  wavemix runs\n  wavemix runs digits",
    ).add_argument("data", nargs="?", help="only runs on this data set")
    verify = add_command(
        group,
        "verify",
        commands.verify,
        "read all prepared shards again and compare them with their manifest",
        "  wavemix verify\n  wavemix verify cifar10",
    )
    verify.add_argument("data", nargs="?", help="a data set of params.yaml (default: the one under data:)")
    add_command(
        group,
        "doctor",
        commands.doctor,
        "describe this machine and what auto would choose, and name what is wrong: paste it into a bug report",
        "  wavemix doctor",
    )
    add_command(
        group,
        "completion",
        lambda options: print(shtab.complete(build_parser(), options.shell)),
        "print a script that completes commands and options in a shell",
        '  eval "$(wavemix completion bash)"\n  wavemix completion zsh > ~/.zfunc/_wavemix',
    ).add_argument("shell", choices=("bash", "zsh"), help="the shell")
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a network; at most one of them may be given."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="a folder on disk (default: checkpoints/best)"
    )
    source.add_argument("--run", dest="run_id", metavar="ID", help="the network of this MLflow run")
    source.add_argument(
        "--model", metavar="NAME@ALIAS", help="a registered model: NAME@champion, or NAME/VERSION"
    )


def _add_predict(group: Any) -> None:
    predict = add_command(
        group,
        "predict",
        commands.predict,
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
        "--csv", type=output_file, metavar="FILE", help="also a row per image, with a column for each class"
    )
    predict.add_argument(
        "--top", metavar="N", help="classes to name of an image, or all (default: 5; of masks all)"
    )
    predict.add_argument(
        "--flip", action="store_true", help="average each image with its mirror image: twice the time"
    )
    predict.add_argument(
        "--tile",
        action="store_true",
        help="masks: take images of any size as they are, in overlapping tiles of the network's size",
    )
    predict.add_argument(
        "--out",
        type=output_folder,
        default=Path("predictions"),
        metavar="DIR",
        help="folder for masks and overlays (default: predictions); classification writes nothing",
    )
    predict.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _add_explain(group: Any) -> None:
    explain = add_command(
        group,
        "explain",
        commands.explain,
        "draw what the network sees in images: its maps after each block, and where it looks (the paper's "
        "Figures 3 and 4)",
        "  wavemix explain photo.jpg --out explained\n  wavemix explain photo.jpg --beside RUN_ID",
    )
    explain.add_argument(
        "images", nargs="+", help="image files, folders (all images below), or glob patterns"
    )
    _add_network(explain)
    explain.add_argument("--beside", metavar="ID", help="draw the maps of this MLflow run's network below")
    explain.add_argument(
        "--out", type=output_folder, default="predictions", metavar="DIR", help="folder for pictures"
    )
    explain.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _add_export(group: Any) -> None:
    export = add_command(
        group,
        "export",
        commands.export,
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
        type=output_folder,
        default="exports",
        metavar="DIR",
        help="folder to write to (default: exports)",
    )


def _add_push(group: Any) -> None:
    push = add_command(
        group,
        "push",
        commands.push,
        "publish a network on the Hugging Face hub, with a card of what it reaches and how it was made",
        "  wavemix push me/digits --dry-run        # write it, and look at the card\n"
        "  wavemix push me/digits --licence mit",
    )
    push.add_argument("repository", metavar="OWNER/NAME", help="the repository; made where there is none")
    _add_network(push)
    push.add_argument("--licence", metavar="ID", help="of the weights, as the hub names them: mit, cc-by-4.0")
    push.add_argument("--private", action="store_true", help="let nobody else see a new repository")
    push.add_argument("--dry-run", action="store_true", help="write the files, send nothing")
    push.add_argument(
        "--out",
        type=output_folder,
        default="exports/hub",
        metavar="DIR",
        help="folder of the files, replaced (default: exports/hub)",
    )
