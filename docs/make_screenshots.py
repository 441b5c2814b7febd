"""Take the README's pictures: ``uv run python docs/make_screenshots.py``, with chromium and a run in the store.

Starts the MLflow UI on a free local port for as long as it takes. Writes to ``docs/``: the table of runs,
their charts, one run, and the report on a desktop, a phone and in the dark.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from pipeline.core.errors import UserError
from pipeline.params import load_params
from pipeline.tracking import names, ui_view
from pipeline.tracking.client import connect
from pipeline.tracking.store import list_runs

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
START_SECONDS = 300
"""How long the MLflow UI may take to answer."""
MLFLOW_WIDTH = 1112
"""Pixels of a window of 1500 that are not the assistant's panel."""
COLOURS = 128
"""Of a stored picture: a page's text needs no more, and the file is a third as large."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", help="tracking URI (default: the repository's)")
    parser.add_argument("--report", type=Path, default=Path("reports/report.html"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--only", choices=["report", "mlflow"], help="leave the other out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only != "mlflow":
        page = args.report.resolve().as_uri()
        take(page, args.out / "report.png", (1100, 1500))
        take(page, args.out / "report-dark.png", (1100, 1500), dark=True)
        # A window is no narrower than 500 pixels, so the phone is a frame of 390 in a page of its own.
        with tempfile.TemporaryDirectory() as folder:
            frame = Path(folder) / "phone.html"
            style = "border:0;width:390px;height:1600px"
            frame.write_text(f'<body style="margin:0"><iframe src="{page}" style="{style}"></iframe>')
            take(frame.as_uri(), args.out / "report-phone.png", (500, 1600), crop=390)
    if args.only != "report":
        store = args.store or names.tracking_uri(load_params())
        with served(store) as url:
            for name, path in pages(store).items():
                take(f"{url}/#/{path}", args.out / f"{name}.png", (1500, 950), crop=MLFLOW_WIDTH)


def pages(store: str) -> dict[str, str]:
    """Where the UI shows the runs on the data set that was used last, by the picture's name."""
    finished = [run for run in list_runs(store) if run.status == "FINISHED"]
    if not finished:
        raise UserError("no finished run in the store; run `uv run dvc repro`")
    newest = finished[0]
    number = connect(store).get_experiment_by_name(newest.data).experiment_id
    experiment = f"experiments/{number}"
    training = "workflowType=machine_learning"
    runs = f"{experiment}/runs?{training}&viewStateShareKey={ui_view.NAME}"
    return {
        "mlflow-runs": runs,
        "mlflow-charts": f"{runs}&compareRunsMode=CHART",
        "mlflow-run": f"{experiment}/runs/{newest.id}?{training}",
    }


@contextmanager
def served(store: str) -> Iterator[str]:
    """The MLflow UI on ``store``; gives its address and ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        store,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise UserError(f"mlflow ui does not start on {store}") from None
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def take(url: str, path: Path, size: tuple[int, int], *, dark: bool = False, crop: int | None = None) -> None:
    """A picture of ``url`` in a window of ``size`` (width, height), cut to ``crop`` pixels of width."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f"no browser found, looked for {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        options = [
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            "--virtual-time-budget=60000",
            f"--screenshot={path.resolve()}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        subprocess.run([browser, *QUIET, *options, url], check=True, timeout=180, capture_output=True)
    with Image.open(path) as image:
        pixels = image.convert("RGB").crop((0, 0, crop or image.width, image.height))
    pixels.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
