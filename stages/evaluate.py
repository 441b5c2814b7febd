"""Measure the trained network on held-out images: ``python -m stages.evaluate``."""

from pathlib import Path

from pipeline.checkpoints import result_cache
from pipeline.core.process import run_stage
from pipeline.evaluate.evaluation import evaluate
from pipeline.params import load_params


def main() -> None:
    checkpoint = Path("checkpoints/best")
    trained, measured = evaluate(load_params(), checkpoint, Path("reports"))
    result_cache.forget(checkpoint)  # DVC evaluates what it has recorded
    name = trained.metric.removeprefix("val/")
    print(f"{name} on {measured.samples:,} {measured.split} images: {measured.values[name]:.4f}")


if __name__ == "__main__":
    run_stage(main)
