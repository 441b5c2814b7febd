"""The network's own speed and memory: images/s in training and inference, activations kept, parameters, MACs.

    uv run python benchmarks/network.py --sizes 128/7 256/7 --dtypes bfloat16 float32
    uv run python benchmarks/network.py --against /path/to/python   # one that has the authors' package
    uv run python benchmarks/network.py --beside /path/to/another/checkout   # of this project
    uv run python benchmarks/network.py --compile --switches conv_1x1_as_mm subpixel_expansion   # each alone

With --against, the authors' networks of the same sizes run in turns with ours, in the same run, each in
every dtype it can train in, and the ratio of the best settings is printed. Every figure is the median of the
rounds; images are random and already on the device, so this is the network alone, not a pipeline.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
THEIRS = "authors"
OURS = "wavemix"
ROW = "{:8} {:18} {:6} {:32} {:>9} {:>12} {:>12} {:>9}"


@dataclass(frozen=True)
class Setting:
    """One way to run one network."""

    library: str
    size: str
    mode: str
    """"train" or "infer"."""
    dtype: str
    compiled: bool
    memory: str
    batch: int
    image: int
    classes: int
    stem_stride: int
    device: str
    threads: int
    seconds: float
    cpu_time: bool
    layout: str = "channels last"
    checkout: str = str(HERE.parent)
    """Folder whose `wavemix` is measured."""
    switch: str | None = None
    """The one switch of `wavemix.switches` that is on."""

    @property
    def label(self) -> str:
        """The setting in words."""
        parts = [self.dtype, "compiled" if self.compiled else "eager"]
        if self.memory != "default":
            parts.append(self.memory)
        if self.library == THEIRS:
            parts.append(self.layout)
        if self.switch is not None:
            parts.append(self.switch)
        if self.checkout != str(HERE.parent):
            parts.append("beside")
        return ", ".join(parts)


class Worker:
    """A process that holds one setting's network and times it when asked, so that settings can take turns."""

    def __init__(self, python: str, setting: Setting) -> None:
        script = str(HERE / "network_worker.py")
        arguments = [python, script, json.dumps(asdict(setting))]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._read()

    def time(self) -> float:
        """Images per second over about `Setting.seconds`."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self._read()["rate"])

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        return {"error": f"the worker ended with exit code {self.process.wait()}"}

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin and self.process.stdin.close()
        self.process.wait()


def measure(workers: dict[Setting, Worker], rounds: int) -> dict[Setting, float]:
    """Median images/s of each setting, all settings taking turns `rounds` times."""
    from tqdm import tqdm

    rates: dict[Setting, list[float]] = {setting: [] for setting in workers}
    for _ in tqdm(range(rounds), desc="rounds", unit="round"):
        for setting, worker in workers.items():
            rates[setting].append(worker.time())
    return {setting: statistics.median(values) for setting, values in rates.items()}


def settings_of(options: argparse.Namespace, size: str, mode: str) -> list[Setting]:
    """Every setting to run for one size and mode."""
    common = {
        "size": size,
        "mode": mode,
        "batch": options.batch,
        "image": options.image,
        "classes": options.classes,
        "stem_stride": options.stem_stride,
        "device": options.device,
        "threads": options.threads,
        "seconds": options.seconds,
        "cpu_time": options.cpu_time,
    }
    memories = options.memory if mode == "train" else ["default"]
    forms = [True, False] if options.compile else [False]
    ours = [
        Setting(library=OURS, dtype=dtype, compiled=compiled, memory=memory, **common)
        for dtype in options.dtypes
        for compiled in forms
        for memory in memories
    ]
    ours += [replace(setting, switch=name) for setting in ours for name in options.switches]
    if options.beside:
        ours += [replace(setting, checkout=options.beside) for setting in ours if setting.switch is None]
    theirs = [
        Setting(library=THEIRS, dtype=dtype, compiled=compiled, memory="default", layout=layout, **common)
        for dtype in options.dtypes
        for compiled in forms
        for layout in ("channels first", "channels last")
        if options.against
    ]
    return ours + theirs


def run(options: argparse.Namespace, size: str, mode: str) -> None:
    """Measures one size and mode and prints its table."""
    workers: dict[Setting, Worker] = {}
    try:
        for setting in settings_of(options, size, mode):
            python = sys.executable if setting.library == OURS else options.against
            print(f"starting {setting.library} {size} {mode}, {setting.label}", file=sys.stderr, flush=True)
            worker = Worker(python, setting)
            if "error" in worker.facts:
                print(
                    f"{setting.library} {size} {mode}, {setting.label}: {worker.facts['error']}", flush=True
                )
                worker.close()
            else:
                workers[setting] = worker
        rates = measure(workers, options.rounds)
        report(rates, {setting: worker.facts for setting, worker in workers.items()})
    finally:
        for worker in workers.values():
            worker.close()


def report(rates: dict[Setting, float], facts: dict[Setting, dict[str, Any]]) -> None:
    """Prints the table, fastest first, and our best over theirs."""
    print(ROW.format("library", "size", "mode", "setting", "img/s", "kept MB/img", "parameters", "GMAC/img"))
    best: dict[str, float] = {}
    for setting, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
        fact = facts[setting]
        kept = f"{fact['saved_bytes'] / 1e6:.2f}" if fact.get("saved_bytes") else "-"
        macs = f"{fact['macs'] / 1e9:.2f}" if fact.get("macs") else "-"
        cells = (setting.library, setting.size, setting.mode, setting.label, f"{rate:.2f}", kept)
        print(ROW.format(*cells, f"{fact['parameters']:,}", macs), flush=True)
        best.setdefault(setting.library, rate)
    if len(best) == 2:
        print(
            f"ratio of the best settings, ours over the authors': {best[OURS] / best[THEIRS]:.2f}", flush=True
        )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed, memory and work of the network alone.")
    parser.add_argument(
        "--sizes", nargs="+", default=["128/7"], help='names like "128/7" or "256/16 ff512 mul3"'
    )
    parser.add_argument("--modes", nargs="+", default=["train", "infer"], choices=["train", "infer"])
    parser.add_argument(
        "--dtypes", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float16", "float32"]
    )
    parser.add_argument("--memory", nargs="+", default=["default"], choices=["default", "lean"])
    parser.add_argument(
        "--compile", action="store_true", help="run each of our settings under torch.compile, too"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--image", type=int, default=64, help="side in pixels")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--stem-stride", type=int, default=1)
    parser.add_argument("--device", default="cpu", help='"cpu" or "cuda"')
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting, in turns")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="per CPU second, for a machine that others share; with --threads 1",
    )
    parser.add_argument("--against", metavar="PYTHON", help="an interpreter that has the authors' package")
    parser.add_argument(
        "--beside", metavar="CHECKOUT", help="another checkout of this project, in turns with this"
    )
    parser.add_argument(
        "--switches", nargs="+", default=[], metavar="NAME", help="of wavemix.switches, each measured alone"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Measures what the command line asks for."""
    options = parse()
    for size in options.sizes:
        for mode in options.modes:
            run(options, size, mode)


if __name__ == "__main__":
    main()
