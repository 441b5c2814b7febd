"""One page per experiment: what was run, on what data, how it went, and how it stands beside the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.markdown import escape, table
from pipeline.core.paths import work_folder
from pipeline.data.shards.layout import shards_folder
from pipeline.params import Params, Phase
from pipeline.plotting import charts, style
from pipeline.plotting.charts import Curve
from pipeline.report.data_section import data_figures, data_text
from pipeline.report.experiment import Experiment, read_experiment
from pipeline.report.html import to_html
from pipeline.report.paper_section import beside_paper
from pipeline.report.runs_section import all_runs, tradeoff_points
from pipeline.tasks.metrics import METRIC_LABELS
from pipeline.tracking import names
from pipeline.tracking.run import Tracker


def make_report(params: Params, checkpoint: Path, reports: Path) -> Path:
    """Write ``report.html`` (one file, all in it) and ``report.md`` to ``reports``; returns the former's path.

    Reads what the stages before left there, and the runs in the tracking store; logs page and data pictures
    to the run.

    Raises:
        UserError: a stage before this one was not run.
    """
    experiment = read_experiment(params, checkpoint, reports)
    folder = shards_folder(params.data, params.size)
    for name, drawn in data_figures(folder, experiment.manifest).items():
        style.save(drawn, reports / "data" / f"{name}.png")
    style.save(charts.curves(curve_panels(experiment.curves)), reports / "data" / "curves.png")
    groups = tradeoff_points(experiment.runs, experiment.params.data, experiment.metric)
    if groups:
        style.save(
            charts.tradeoff(groups, METRIC_LABELS[experiment.metric]), reports / "data" / "tradeoff.png"
        )
    markdown = write_markdown(experiment, reports)
    (reports / "report.md").write_text(markdown, encoding="utf-8")
    page = reports / "report.html"
    page.write_text(to_html(markdown, _title(experiment), reports), encoding="utf-8")
    _log(experiment, reports)
    return page


def curve_panels(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Curve]]:
    """Return the columns of ``curves.csv`` as panels: train and val of one figure share one, times and sizes too."""
    panels: dict[str, dict[str, Curve]] = {}
    for column in rows[0] if rows else ():
        if column in ("epoch", "step"):
            continue
        group, _, name = column.rpartition("/")
        points = [(row["epoch"], row[column]) for row in rows if row[column] == row[column]]
        panels.setdefault(_heading(name), {})[group or name] = points
    return panels


LABELS = {
    **METRIC_LABELS,
    "miou_original": "mIoU at the labels' own size",
    "pixel_accuracy_original": "pixel accuracy at the labels' own size",
    "peak_memory_gb": "peak memory, GB",
    "peak_gpu_memory_gb": "peak GPU memory, GB",
}


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _heading(name: str) -> str:
    label = _label(name)
    return label if label[1:2].isupper() else label[0].upper() + label[1:]  # mIoU stays


def _title(experiment: Experiment) -> str:
    return f"{experiment.params.model.label} on {experiment.params.data}"


def write_markdown(experiment: Experiment, reports: Path) -> str:
    """Return the page as Markdown; pictures relative to ``reports``."""
    sections = [
        f"# {escape(_title(experiment))}\n",
        _headline(experiment),
        "## What was run\n",
        _setting(experiment),
        "## Training\n",
        "![Learning curves](data/curves.png)\n",
        f"## Evaluation on {experiment.split}\n",
        _evaluation(experiment, reports),
        "## What it costs\n",
        (reports / "benchmark.md").read_text(encoding="utf-8"),
        "## Data\n",
        data_text(experiment.manifest),
        "![Per class](data/histogram.png)\n",
        "![Prepared samples](data/samples.png)\n",
        "## Beside the paper\n",
        beside_paper(experiment.runs),
        "## All runs on this data\n",
        "![Accuracy against parameters](data/tradeoff.png)\n"
        if (reports / "data" / "tradeoff.png").exists()
        else "",
        all_runs(experiment.runs, experiment.params.data, experiment.metric, experiment.trained.run_id),
        "## Look further\n",
        _look_further(experiment),
    ]
    return "\n".join(sections)


def _headline(experiment: Experiment) -> str:
    values = experiment.metrics[experiment.split]
    name = METRIC_LABELS[experiment.metric]
    samples = experiment.manifest.split(experiment.split).samples
    text = f"**{100 * values[experiment.metric]:.2f} % {name}** on {samples:,} {experiment.split} images, "
    text += f"with {experiment.trained.parameters:,} parameters.\n"
    if experiment.split == "val":
        text += (
            "\n> The same val images picked the checkpoint, so this figure flatters a little: "
            f"{experiment.params.data} has no test split.\n"
        )
    return text


def _setting(experiment: Experiment) -> str:
    params, trained, run = experiment.params, experiment.trained, experiment.run
    rows = [
        ("model", _pairs(params.model.model_dump(exclude_defaults=True))),
        ("parameters", f"{trained.parameters:,}"),
        *((f"phase {i + 1}", _phase(phase)) for i, phase in enumerate(params.train.phases)),
        ("batch size", _batch_size(experiment)),
        (
            "training",
            _pairs(params.train.model_dump(exclude_defaults=True, exclude={"phases", "batch_size"})),
        ),
        ("best epoch", f"{trained.epoch} of {int(experiment.curves[-1]['epoch'])}, by {trained.metric}"),
        ("run", trained.run_id or "not in the store"),
    ]
    if run is not None:
        rows += [
            (name, run.tags[key])
            for name, key in (
                ("name", "mlflow.runName"),
                ("device", "device"),
                ("amp", "amp"),
                ("torch", "torch"),
                ("git commit", "git.commit"),
                ("uncommitted changes", "git.dirty"),
                ("data hash", "data.hash"),
            )
            if key in run.tags
        ]
    return table(["", "setting"], [row for row in rows if row[1]])


def _batch_size(experiment: Experiment) -> str:
    """Return the batch size: with `auto`, the one that was found: only the run has it."""
    asked = str(experiment.params.train.batch_size)
    logged = experiment.run.params.get("train.batch_size", asked) if experiment.run else asked
    return logged if logged == asked else f"{logged} ({asked})"


def _phase(phase: Phase) -> str:
    """Return what was set, and the learning rate in any case."""
    values = phase.model_dump(exclude_defaults=True, exclude={"optimizer", "lr", "schedule"})
    return f"{phase.optimizer}, lr {phase.lr:g}, {phase.schedule}; {_pairs(values)}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _pairs({key: entry for key, entry in value.items() if entry is not None})
    return f"{value:g}" if isinstance(value, float) else str(value)


def _evaluation(experiment: Experiment, reports: Path) -> str:
    splits = [split for split in ("val", "test") if split in experiment.metrics]
    names = list(experiment.metrics[splits[0]])
    rows = [
        (_label(name), *(_figure(name, experiment.metrics[split].get(name)) for split in splits))
        for name in names
    ]
    text = table(["", *splits], rows)
    captions = {
        "per_class": "Each class",
        "confusion": "Confusion matrix",
        "predictions": "Predictions",
        "mistakes": "Worst mistakes",
        "calibration": "Calibration",
    }
    for name, caption in captions.items():
        if (reports / "evaluate" / f"{name}.png").exists():
            text += f"\n![{caption}](evaluate/{name}.png)\n"
    return text


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if name in ("loss", "ece", "ece_calibrated") else f"{100 * value:.2f} %"


def look_commands(params: Params) -> list[str]:
    """Return commands that show more of an experiment."""
    return [
        names.ui_command(names.tracking_uri(params)),
        "uv run dvc plots show --open",
        "uv run wavemix predict IMAGE_OR_FOLDER",
    ]


def _look_further(experiment: Experiment) -> str:
    return "```\n" + "\n".join(look_commands(experiment.params)) + "\n```\n"


def _log(experiment: Experiment, reports: Path) -> None:
    """Log the page and the data's pictures as artifacts of the run; what the network costs as metrics and a file."""
    trained, params = experiment.trained, experiment.params
    work = work_folder("report", trained.run_id or "unknown")
    tracker = Tracker(names.tracking_uri(params), params.data, work)
    tracker.start(run_id=trained.run_id, name=names.run_name(params))
    costs = experiment.cost["figures"].items()
    measured = {f"cost/{name}": cost["value"] for name, cost in costs if name != "parameters"}
    tracker.log_metrics(measured)
    extrapolated = ", ".join(name for name, cost in costs if cost["how"].startswith("extrapolated"))
    tracker.set_tags(
        {"cost.device": experiment.cost["where"]["device"], "cost.extrapolated": extrapolated or "nothing"}
    )
    tracker.log_artifact(reports / "benchmark.json", "benchmark")
    tracker.log_artifact(reports / "report.html")
    tracker.log_artifact(reports / "data", "data")
    tracker.finish()
