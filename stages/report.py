"""Put the experiment on one page: ``python -m stages.report``."""

from pathlib import Path

from pipeline.core.process import run_stage
from pipeline.params import load_params
from pipeline.report.page import look_commands, make_report


def main() -> None:
    params = load_params()
    page = make_report(params, Path("checkpoints/best"), Path("reports"))
    print(f"report: {page} (open it in a browser); the runs: {look_commands(params)[0]}")


if __name__ == "__main__":
    run_stage(main)
