"""Train the network that params.yaml describes: ``python -m stages.train``."""

from pathlib import Path

from pipeline.core.process import run_stage
from pipeline.params import load_params
from pipeline.train.experiment import train_once


def main() -> None:
    trained = train_once(load_params(), out=Path("checkpoints/best"), curves=Path("reports/curves.csv"))
    print(f"best {trained.metric} {trained.value:.4f} in epoch {trained.epoch}: checkpoints/best")


if __name__ == "__main__":
    run_stage(main)
