"""The commands that train, or prepare to: the paper's rows, comparisons, searches; given their options.

Each imports what it needs when it runs: `wavemix --help` should not wait for torch.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.paths import project_folder


def paper_list(options: argparse.Namespace) -> None:
    from pipeline.paper.rivals import all_rows
    from pipeline.paper.rows import figure, in_table, tables
    from pipeline.tasks.metrics import METRIC_LABELS

    for row in all_rows().values():
        if options.table is None or in_table(row, options.table):
            metric, value = figure(row)
            cited = "  cited" if any("cited" in reported for reported in row.reported) else ""
            print(
                f"{row.name:<42} table {tables(row):<6} {row.parameters:>12,} parameters"
                f"  {METRIC_LABELS[metric]} {value:5.2f}{cited}"
            )


def paper_show(options: argparse.Namespace) -> None:
    from pipeline.paper.rows import describe_row, find_row

    print(describe_row(find_row(options.row)))


def paper_use(options: argparse.Namespace) -> None:
    from pipeline.paper.apply import use
    from pipeline.paper.rows import find_row

    os.chdir(project_folder())
    changes = use(find_row(options.row), recipe=options.recipe)
    print("\n".join(changes) if changes else "params.yaml already says so")
    if changes:
        print("params.yaml is written; `uv run dvc repro` trains it")


def compare(options: argparse.Namespace) -> None:
    from pipeline.compare.entrants import rows_of_table

    rows = list(options.rows)
    if options.table is not None:
        rows += [name for name in rows_of_table(options.table) if name not in rows]
    if options.costs:
        _compare_costs(options, rows)
    else:
        _compare_trained(options, rows)


def _compare_costs(options: argparse.Namespace, rows: list[str]) -> None:
    from pipeline.compare.costs import Setting
    from pipeline.compare.row_costs import PAGE, measure_rows
    from pipeline.paper.rows import find_row

    if not rows:
        raise UserError("compare: no rows; name some of `wavemix paper list`, or a --table")
    out = options.out or Path("reports/costs")
    setting = Setting.choose(
        options.device or "auto", options.amp or "auto", options.compile or "auto", options.batch
    )
    measure_rows([find_row(name) for name in rows], setting, options.turns or 5, out)
    print((out / PAGE).read_text(encoding="utf-8"), end="")


def _compare_trained(options: argparse.Namespace, rows: list[str]) -> None:
    from pipeline.compare.comparison import open_comparison
    from pipeline.compare.page import write_page
    from pipeline.compare.running import run_comparison

    for name in ("turns", "batch", "device", "amp", "compile"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} goes with --costs; trainings take what params.yaml says: leave it out")
    _refuse_no_time("minutes", options.minutes)
    os.chdir(project_folder())
    out = options.out or Path("reports/compare")
    opened = open_comparison(Path("params.yaml"), rows, options.minutes, out)
    failed = [] if options.page else run_comparison(opened)
    print(f"{write_page(opened, out, options.sort)}: the table, Figure 1, the curves")
    if failed:
        raise UserError("compare: " + "; ".join(failed))


def search(options: argparse.Namespace) -> None:
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UserError("search needs Optuna, not installed here; run `uv sync --extra search`")
    from pipeline.search.choose import use_trial
    from pipeline.search.page import evidence, write_page
    from pipeline.search.worker import open_search, run_search

    os.chdir(project_folder())
    path = Path("params.yaml")
    _refuse_no_time("hours", options.hours)
    limits = {name: getattr(options, name) for name in ("trials", "epochs", "hours")}
    opened = open_search(path, options.target, options.minimise, **limits)
    if (options.use is not None or options.page) and not opened.study.tried():
        raise UserError(
            "search: no trials yet of what params.yaml describes now; `wavemix search` makes some"
        )
    if options.use is not None:
        print("\n".join(use_trial(opened.study.tried(), options.use, path)))
        print("params.yaml is written; `uv run dvc repro` trains it")
        return
    if not options.page:
        run_search(opened)
    print(f"{write_page(opened, options.out)}: the front, what mattered, all trials")
    if opened.target is not None:
        tried = opened.study.tried()
        found = evidence(opened, tried)
        if not any(map(opened.target.is_reached_by, tried)):
            raise UserError(found)
        print(found)


def _refuse_no_time(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UserError(f"--{option}: got {value}, allowed: more than 0")
