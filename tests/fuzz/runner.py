"""Mutants in child processes: a signal, a hang, a traceback or a silent change ends nothing but its own mutant.

One child serves many mutants. It is forked once everything is imported, so that a mutant costs what it takes to open
it. A child that dies is followed by another, which starts at the next mutant.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TextIO

from pipeline.core.errors import one_line
from tests.fuzz.base import REFUSALS, Files, Format, Part, genuine, write
from tests.fuzz.mutation import mutate

MEMORY = 1536 << 20
"""Bytes that opening a mutant may add to what a child takes: somewhat more than `MAX_PIXELS` allow for one image."""

ADDRESS_SPACE = 4 << 30
"""Bytes that a child may add to its address space, so that no mutant takes this machine's memory."""

CPU_SECONDS, SECONDS = 20, 120
"""Of processor time, and of time, that a mutant may take."""

READ, REFUSED = "read", "refused"


@dataclass
class Outcome:
    """What became of the mutants of one format."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    """Seed of the mutant, and what happened."""


def run(form: Format, name: str, seeds: Iterable[int], limit: int = MEMORY) -> Outcome:
    """Open the mutants ``seeds`` of the format ``form``, called ``name``."""
    outcome, waiting = Outcome(), list(seeds)
    while waiting:
        with TemporaryDirectory(prefix="fuzz-") as home:
            status, lines = _in_child(partial(_serve, form, name, waiting, limit, Path(home)))
        assert lines, f"{name}: its genuine files cannot be opened"
        del lines[0]
        for seed, kind, detail in lines:
            outcome.counts[kind] += 1
            if kind not in (READ, REFUSED):
                outcome.faults.append((seed, f"{kind}: {detail}"))
        del waiting[: len(lines)]
        if waiting and status:
            kind, detail = _explain_end(status)
            outcome.counts[kind] += 1
            outcome.faults.append((waiting.pop(0), f"{kind}: {detail}"))
    return outcome


def _explain_end(status: int) -> tuple[str, str]:
    if not os.WIFSIGNALED(status):
        return "exit", f"the process ended with {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    if number in (signal.SIGPROF, signal.SIGALRM):
        return "hang", f"over {CPU_SECONDS} s of processor time, or {SECONDS} s"
    return "signal", signal.Signals(number).name


def _in_child(serve: Callable[[], Iterator[list[object]]]) -> tuple[int, list[tuple[int, str, str]]]:
    """Run ``serve`` in a forked process: its exit status, and what it yielded."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        errors = _silence()
        try:
            os.close(reader)
            for line in serve():
                os.write(writer, json.dumps(line).encode() + b"\n")
            status = 0
        except BaseException:  # the parent's own code must not run in the child
            traceback.print_exc(file=errors)
            errors.flush()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        lines = [tuple(json.loads(line)) for line in stream]
    return os.waitpid(child, 0)[1], lines


def _silence() -> TextIO:
    """Keep what libraries print out of sight; return the error stream as it was."""
    faulthandler.disable()  # pytest's, which would print each signal
    errors = os.fdopen(os.dup(2), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the end
    return errors


def _serve(form: Format, name: str, seeds: list[int], limit: int, home: Path) -> Iterator[list[object]]:
    """Yield a first line once the genuine files were opened, then seed, outcome and detail of each mutant."""
    variants = form.make()
    os.chdir(home)
    expected = []
    for files in variants:  # a genuine file that is refused shows that nothing is tested
        write(_fresh(home), genuine(files))
        expected.append(form.use(home / "mutant"))
    yield [None, "ready", ""]
    _limit_address_space()
    most = _peak_memory() + limit
    for seed in seeds:
        random = Random(f"{name} {seed}")
        number = random.randrange(len(variants))
        write(_fresh(home), mutant_files(variants, number, random))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(SECONDS)
        kind, detail = _open(form, home / "mutant", expected[number])
        signal.setitimer(signal.ITIMER_PROF, 0)
        over = _peak_memory() - most
        yield [seed, kind, detail] if over <= 0 else [seed, "memory", f"{(over + limit) >> 20} MiB"]
        if over > 0:
            return  # a peak stays; another child goes on


def _fresh(home: Path) -> Path:
    shutil.rmtree(home / "mutant", ignore_errors=True)
    (home / "mutant").mkdir()
    return home / "mutant"


def mutant_files(variants: Iterable[Files], number: int, random: Random) -> dict[str, bytes]:
    """Return variant ``number`` with one of its parts mutated, before it is wrapped or after."""
    variants = list(variants)
    files = variants[number]
    parts = {name: part for name, part in files.items() if isinstance(part, Part)}
    name = random.choice(sorted(parts))
    part = parts[name]
    inside = part.wrap is not None and random.random() < 0.6
    others = [
        other.content if inside else other.file
        for each in variants
        for other in each.values()
        if isinstance(other, Part)
    ]
    if inside and part.wrap is not None:
        content = part.wrap(mutate(part.content, random, others))
    else:
        content = mutate(part.file, random, others)
    return genuine(files) | {name: content}


def _open(form: Format, folder: Path, expected: object) -> tuple[str, str]:
    try:
        found = form.use(folder)
    except REFUSALS as error:
        return REFUSED, str(error)
    except MemoryError:
        return "memory", "more than the limit"
    except Exception as error:
        return "traceback", _summary(error)
    if form.checked and found != expected:
        return "silent change", "read without an error, and not as it was written"
    return READ, ""


def _summary(error: Exception) -> str:
    """Return what was raised and, innermost first, the lines it came through."""
    frames = traceback.extract_tb(error.__traceback__)[:0:-1]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}: {one_line(error)} ({places})"


def _peak_memory() -> int:
    """Return the most bytes of memory that this process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_address_space() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
