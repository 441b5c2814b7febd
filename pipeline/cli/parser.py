"""``wavemix``: use what was trained. ``wavemix COMMAND --help`` explains each command with examples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import shtab

from pipeline.cli import commands
from pipeline.compare.figures import SORTED_BY
from pipeline.core.process import run_stage
from pipeline.search.target import MINIMISED

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
    _add_paper(group)
    _add_compare(group)
    _add_search(group)
    _add(
        group,
        "runs",
        commands.runs,
        "list the runs in the MLflow store",
        "  wavemix runs\n  wavemix runs digits",
    ).add_argument("data", nargs="?", help="only runs on this data set")
    verify = _add(
        group,
        "verify",
        commands.verify,
        "read all prepared shards again and compare them with their manifest",
        "  wavemix verify\n  wavemix verify cifar10",
    )
    verify.add_argument("data", nargs="?", help="a data set of params.yaml (default: the one under data:)")
    _add(
        group,
        "doctor",
        commands.doctor,
        "describe this machine and what auto would choose, and name what is wrong: paste it into a bug report",
        "  wavemix doctor",
    )
    _add(
        group,
        "completion",
        lambda options: print(shtab.complete(build_parser(), options.shell)),
        "print a script that completes commands and options in a shell",
        '  eval "$(wavemix completion bash)"\n  wavemix completion zsh > ~/.zfunc/_wavemix',
    ).add_argument("shell", choices=("bash", "zsh"), help="the shell")
    return parser


def _add(group: Any, name: str, run: Any, summary: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
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
    predict = _add(
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
        "--csv", type=Path, metavar="FILE", help="also a row per image, with a column for each class"
    )
    predict.add_argument(
        "--top", metavar="N", help="classes to name of an image, or all (default: 5; of masks all)"
    )
    predict.add_argument(
        "--flip", action="store_true", help="average each image with its mirror image: twice the time"
    )
    predict.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder for masks and overlays (default: predictions); classification writes nothing",
    )
    predict.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _add_explain(group: Any) -> None:
    explain = _add(
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
        "--out", type=Path, default=Path("predictions"), metavar="DIR", help="folder for pictures"
    )
    explain.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def _add_export(group: Any) -> None:
    export = _add(
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
        type=Path,
        default=Path("exports"),
        metavar="DIR",
        help="folder to write to (default: exports)",
    )


def _add_push(group: Any) -> None:
    push = _add(
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
        type=Path,
        default=Path("exports/hub"),
        metavar="DIR",
        help="folder of the files, replaced (default: exports/hub)",
    )


def _add_compare(group: Any) -> None:
    compare = _add(
        group,
        "compare",
        commands.compare,
        "train networks beside each other, or measure what they cost, with the paper's figures beside ours",
        "  wavemix compare                 # the networks of the section compare: of params.yaml\n"
        "  wavemix compare 'cifar10 32/7' 'cifar10 ResNet-18' --minutes 30\n"
        "  wavemix compare --costs --table 1\n"
        "  wavemix compare --costs 'cifar10 32/7' 'cifar10 ResNet-18' --turns 9 --batch 128",
    )
    compare.add_argument(
        "rows", nargs="*", metavar="ROW", help="rows of the paper, as `wavemix paper list` names them"
    )
    compare.add_argument("--table", type=int, help="all rows of this table of the paper")
    compare.add_argument(
        "--minutes",
        type=float,
        help="train each for this long, by its measured speed (default: train.phases)",
    )
    compare.add_argument("--sort", choices=tuple(SORTED_BY), default="accuracy", help="order of the table")
    compare.add_argument(
        "--page", action="store_true", help="write the page of what has been trained so far; train nothing"
    )
    compare.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the records and the page (default: reports/compare)",
    )
    compare.add_argument(
        "--costs", action="store_true", help="memory and images/s in turns, without data or training"
    )
    costs = compare.add_argument_group("with --costs")
    costs.add_argument("--turns", type=_positive, help="times that each network is timed (default: 5)")
    costs.add_argument(
        "--batch", type=_positive, help="images in a batch that is timed (default: 64; 8 on a CPU)"
    )
    costs.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"])
    costs.add_argument("--amp", choices=["auto", "off", "bf16", "fp16"])
    costs.add_argument("--compile", choices=["auto", "on", "off"])


def _add_search(group: Any) -> None:
    search = _add(
        group,
        "search",
        commands.search,
        "find the best network of each size, or the smallest that reaches a target: the section search: of params.yaml",
        "  wavemix search --trials 60\n"
        "  wavemix search --target top1=0.99 --minimise parameters\n"
        "  wavemix search --use 17 && uv run dvc repro",
    )
    search.add_argument(
        "--target", metavar="METRIC=SHARE", help="the accuracy on val to reach, as in top1=0.99"
    )
    search.add_argument(
        "--minimise",
        choices=MINIMISED,
        default="parameters",
        help="what is to be least of those that reach the target (default: parameters)",
    )
    search.add_argument("--trials", type=_positive, help="trainings at most, over all processes")
    search.add_argument("--epochs", type=_positive, help="epochs at most, over all trainings")
    search.add_argument("--hours", type=float, help="hours of training at most, added up over all processes")
    search.add_argument(
        "--page", action="store_true", help="write the page of what was found so far; train nothing"
    )
    search.add_argument("--use", type=int, metavar="TRIAL", help="write a trial's values into params.yaml")
    search.add_argument(
        "--out", type=Path, default=Path("reports/search"), metavar="DIR", help="folder of the page"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: a whole number from 1 to 1,000,000")
    return int(text)


def _add_paper(group: Any) -> None:
    paper = group.add_parser("paper", help="the rows of the paper's tables: list, show, use")
    actions = paper.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _add(
        actions,
        "list",
        commands.paper_list,
        "list all rows",
        "  wavemix paper list\n  wavemix paper list --table 9",
    )
    listing.add_argument("--table", type=int, help="only rows of this table")
    show = _add(actions, "show", commands.paper_show, "show a row", "  wavemix paper show 'cifar10 64/6'")
    show.add_argument("row", help="its name, as in the list")
    use = _add(
        actions,
        "use",
        commands.paper_use,
        "write a row's data, model and image size into params.yaml, keeping its comments",
        "  wavemix paper use 'cifar10 64/6'\n  wavemix paper use 'cifar10 64/6' --recipe && uv run dvc repro",
    )
    use.add_argument("row", help="its name, as in the list")
    use.add_argument("--recipe", action="store_true", help="also the paper's two phases of training")
