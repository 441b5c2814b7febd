"""The options of the commands in `studies`."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.cli import studies
from pipeline.cli.options import add_command
from pipeline.cli.outputs import output_folder
from pipeline.compare.figures import SORTED_BY
from pipeline.search.target import MINIMISED


def add_compare(group: Any) -> None:
    compare = add_command(
        group,
        "compare",
        studies.compare,
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
        type=output_folder,
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


def add_search(group: Any) -> None:
    search = add_command(
        group,
        "search",
        studies.search,
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
        "--out", type=output_folder, default="reports/search", metavar="DIR", help="folder of the page"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: a whole number from 1 to 1,000,000")
    return int(text)


def add_paper(group: Any) -> None:
    paper = group.add_parser("paper", help="the rows of the paper's tables: list, show, use")
    actions = paper.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = add_command(
        actions,
        "list",
        studies.paper_list,
        "list all rows",
        "  wavemix paper list\n  wavemix paper list --table 9",
    )
    listing.add_argument("--table", type=int, help="only rows of this table")
    show = add_command(
        actions, "show", studies.paper_show, "show a row", "  wavemix paper show 'cifar10 64/6'"
    )
    show.add_argument("row", help="its name, as in the list")
    use = add_command(
        actions,
        "use",
        studies.paper_use,
        "write a row's data, model and image size into params.yaml, keeping its comments",
        "  wavemix paper use 'cifar10 64/6'\n  wavemix paper use 'cifar10 64/6' --recipe && uv run dvc repro",
    )
    use.add_argument("row", help="its name, as in the list")
    use.add_argument("--recipe", action="store_true", help="also the paper's two phases of training")
