"""How fast raw images become shards, beside img2dataset's resizer and WebDataset's own writer.

    uv run python -m benchmarks.prepare FOLDER [--img2dataset PYTHON] [--rounds 7] [--repeat 5] [--scaling]

FOLDER holds JPEGs. Contenders take turns, round by round, in one run; each figure is images per second of CPU
time of one core (the machine may be shared), the median over the rounds. ``--scaling`` measures nothing but the rate
of a core alone and beside the others, which wants a quiet machine. PYTHON is the interpreter of an environment with
img2dataset, which cannot share one with this project:

    uv venv /tmp/img2dataset && VIRTUAL_ENV=/tmp/img2dataset uv pip install img2dataset
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from benchmarks.spread import spread
from pipeline.core.storage import Storage
from pipeline.data.imaging.resize import Resizer
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.listing import Sample
from pipeline.data.readers.cityscapes import labels
from pipeline.data.shards.encoding import encode_image
from pipeline.params import DatasetParams
from pipeline.prepare.convert import Unit, convert
from pipeline.prepare.executors import available_cores, run_local

SIDE = 64  # pixels
UNITS = 16
"""Of the scaling: enough that no worker waits long for the other's last one."""
Size = tuple[int, int]
Round = Callable[[], float]
"""Does the work once and gives the CPU seconds it took."""


def main() -> None:
    arguments = _arguments()
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files = files * arguments.repeat
    print(f"{len(files)} JPEGs ({arguments.folder.name}, each {arguments.repeat} times) to {SIDE}x{SIDE}, "
          f"{arguments.rounds} rounds, {platform.machine()}, Python {platform.python_version()}")  # fmt: skip
    if arguments.scaling:
        _print_scaling(files, arguments.rounds)
        return
    with ExitStack() as stack:
        contenders = {
            "resizer, box (exact)": _resizer("box", files),
            "resizer, area": _resizer("area", files),
            "resizer, fast": _resizer("fast", files),
            "whole unit: read, box, raw shard, hash": _whole("box", files),
            "whole unit: read, fast, raw shard, hash": _whole("fast", files),
            "Pillow box, WebDataset ShardWriter, npy": _shard_writer(files),
        }
        if arguments.img2dataset:
            contenders["img2dataset resizer (area, JPEG 95)"] = stack.enter_context(
                _img2dataset(arguments.img2dataset, files)
            )
        _print_rates(contenders, len(files), arguments.rounds)
    _print_fidelity(files[:: arguments.repeat])
    _print_scaling(files, arguments.rounds)
    _print_several_sizes(files[:6], arguments.rounds)


def _print_rates(contenders: dict[str, Round], images: int, rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            seconds[name].append(run())
    base = seconds.get("img2dataset resizer (area, JPEG 95)")
    print(
        "\n| what | images per CPU second: median (worst to best round) | times img2dataset, median of rounds |"
    )
    print("|---|---|---|")
    for name, took in seconds.items():
        rates = [images / second for second in took]
        ratio = statistics.median(b / t for b, t in zip(base, took, strict=True)) if base else None
        print(f"| {name} | {spread(rates, '.0f')} "
              f"| {'' if ratio is None else f'{ratio:.2f}'} |")  # fmt: skip


def _resizer(filter_name: str, files: list[Path]) -> Round:
    """Bytes in memory to bytes of a raw member: what img2dataset's resizer does, without its JPEG."""
    images = [path.read_bytes() for path in files]
    resizer = Resizer(3, filter_name, "squash")

    def run() -> float:
        start = time.process_time()
        for data in images:
            pixels, _ = resizer.decode(data, ((SIDE, SIDE),))
            encode_image(resizer.resize(pixels, (SIDE, SIDE)), "raw", 95)
        return time.process_time() - start

    return run


def _whole(filter_name: str, files: list[Path]) -> Round:
    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return _timed(_unit(files, folder, 0, ((SIDE, SIDE),), filter_name))

    return run


def _shard_writer(files: list[Path]) -> Round:
    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            with webdataset.ShardWriter(f"{folder}/%06d.tar", verbose=0) as writer:
                for key, path in enumerate(files):
                    with Image.open(io.BytesIO(path.read_bytes())) as image:
                        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
                    writer.write({"__key__": f"{key:09d}", "npy": np.asarray(small), "cls": 0})
            return time.process_time() - start

    return run


@contextmanager
def _img2dataset(python: str, files: list[Path]) -> Iterator[Round]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.write("\n".join(str(path.resolve()) for path in files))
        names.flush()
        script = Path(__file__).with_name("img2dataset_resizer.py")
        process = subprocess.Popen(
            [python, str(script), names.name, str(SIDE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin
        print(f"img2dataset {source.readline().strip()}")

        def run() -> float:
            sink.write("go\n")
            sink.flush()
            return float(source.readline())

        yield run
        process.kill()


def _print_fidelity(files: list[Path]) -> None:
    """How near ``fast`` and ``area`` come to the exact box: PSNR over all images, and the worst image's."""
    print()
    for name in ("fast", "area"):
        errors = []
        for path in files:
            near, exact = (
                resizer.resize(resizer.decode(path.read_bytes(), ((SIDE, SIDE),))[0], (SIDE, SIDE)).astype(
                    float
                )
                for resizer in (Resizer(3, name, "squash"), Resizer(3, "box", "squash"))
            )
            errors.append(max(float(np.mean((near - exact) ** 2)), 1e-9))
        decibels = [10 * np.log10(255**2 / error) for error in errors]
        pooled = 10 * np.log10(255**2 / np.mean(errors))
        print(f"{name} against box: PSNR {pooled:.1f} dB over {len(files)} images, median of the images "
              f"{np.median(decibels):.1f}, least {min(decibels):.1f}")  # fmt: skip


def _print_scaling(files: list[Path], rounds: int) -> None:
    """What a core does while it works alone and while all do, in turns.

    A rate is images per second that a worker spends in `convert`: starting the processes is not counted, waiting
    for the disk or for a core that others use is. The CPU's own seconds are beside it.
    """
    cores = available_cores()
    rates: dict[int, list[tuple[float, float]]] = {1: [], cores: []}
    for _ in range(rounds):
        for workers, measured in rates.items():
            with tempfile.TemporaryDirectory() as folder:
                units = [_unit(files[i::UNITS], folder, i, ((SIDE, SIDE),), "box") for i in range(UNITS)]
                clock, cpu = map(sum, zip(*run_local(_clocked, units, workers), strict=True))
            measured.append((len(files) / clock, len(files) / cpu))
    print("\n| workers | images a second and worker (range) | images a CPU second (range) |")
    print("|---|---|---|")
    for workers, measured in rates.items():
        print(
            f"| {workers} | "
            + " | ".join(spread(column, ".0f") for column in zip(*measured, strict=True))
            + " |"
        )
    pairs = [tuple(b / a for a, b in zip(*pair, strict=True)) for pair in zip(*rates.values(), strict=True)]
    print(
        f"| {cores} over 1 | "
        + " | ".join(spread(column, ".3f") for column in zip(*pairs, strict=True))
        + " |"
    )


def _clocked(unit: Unit) -> tuple[float, float]:
    """Seconds by the clock and CPU seconds that `convert` takes."""
    start = time.perf_counter()
    cpu = _timed(unit)
    return time.perf_counter() - start, cpu


def _timed(unit: Unit) -> float:
    """CPU seconds that `convert` takes: starting the process is not counted."""
    start = time.process_time()
    convert(unit)
    return time.process_time() - start


def _print_several_sizes(files: list[Path], rounds: int) -> None:
    """Frames as large as Cityscapes', enlarged from photographs: two sizes in one pass against the larger."""
    with tempfile.TemporaryDirectory() as folder:
        frames = []
        for i, path in enumerate(files):
            with Image.open(path) as image:
                image.convert("RGB").resize((2048, 1024), Image.Resampling.BICUBIC).save(f"{folder}/{i}.png")
            mask = np.kron(
                np.random.default_rng(i).integers(0, 34, (32, 64), np.uint8), np.ones((32, 32), np.uint8)
            )
            Image.fromarray(mask).save(f"{folder}/{i}.mask.png")
            frames.append((Path(folder) / f"{i}.png", Path(folder) / f"{i}.mask.png"))
        took: dict[tuple[Size, ...], list[float]] = {((512, 1024),): [], ((256, 512), (512, 1024)): []}
        for _ in range(rounds):
            for sizes, seconds in took.items():
                unit = _unit([], folder, 0, sizes, "box", frames)
                (Path(folder) / "records" / unit.record).unlink(missing_ok=True)
                seconds.append(_timed(unit))
        one, both = took.values()
        ratio = statistics.median(b / a for a, b in zip(one, both, strict=True))
        print(f"\n2048x1024 PNG frames: 512x1024 alone {statistics.median(one) / len(files) * 1e3:.1f} ms of CPU a "
              f"frame, with 256x512 in the same pass {ratio:.2f} times that")  # fmt: skip


def _unit(
    files: list[Path],
    folder: str,
    index: int,
    sizes: tuple[Size, ...],
    filter_name: str,
    frames: list[tuple[Path, Path]] | None = None,
) -> Unit:
    samples = [Sample(f"{i}", _blob(path), 0) for i, path in enumerate(files)]
    samples += [Sample(f"{i}", _blob(image), _blob(mask)) for i, (image, mask) in enumerate(frames or [])]
    params = DatasetParams.model_construct(
        **{
            **DatasetParams(reader="image_folder", sizes=sizes).model_dump(),
            "sizes": sizes,
            "filter": filter_name,
        }
    )
    return Unit(
        split="train",
        index=index,
        identity="",
        samples=tuple(samples),
        task="segmentation" if frames else "classification",
        classes=19,
        labels=labels() if frames else None,
        params=params,
        shards=Storage(folder),
        records=Storage(f"{folder}/records"),
    )


def _blob(path: Path) -> Blob:
    return Blob(str(path), 0, path.stat().st_size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--img2dataset", help="python of an environment that has img2dataset")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--scaling", action="store_true", help="only the rate per core on one and on all cores"
    )
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
