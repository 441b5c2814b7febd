"""Train the network that params.yaml describes: ``python -m stages.train``."""

from pathlib import Path

from pipeline.errors import run_stage
from pipeline.params import load_params
from pipeline.train import take_finished, train


def main() -> None:
    params, out, curves = load_params(), Path("checkpoints/best"), Path("reports/curves.csv")
    # DVC clears both before it trains. Killed before it recorded them, it shall not have to train again.
    trained = take_finished(params, out, curves) or train(params, out, curves)
    print(f"best {trained.metric} {trained.value:.4f} in epoch {trained.epoch}: checkpoints/best")


if __name__ == "__main__":
    run_stage(main)
