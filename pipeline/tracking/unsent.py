"""Points that a store did not take before their process ended: kept in a file per run, sent by the next process.

A file holds a line that says which run they belong to, and a line for each point.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.core.atomic import write_atomically
from pipeline.core.errors import one_line
from pipeline.core.hashing import configuration_hash
from pipeline.core.paths import repository_root
from pipeline.core.redact import without_credentials
from pipeline.tracking.client import create_run, is_refusal
from pipeline.tracking.points import log_points, parse_points


class Owner(BaseModel):
    """The run that the points of a file belong to."""

    model_config = ConfigDict(extra="ignore")

    store: str
    """A hash of the store's address, which may hold a password."""
    run_id: str | None
    status: str
    """How the run ended, which the store does not know either."""
    experiment: str
    create: dict[str, Any]


def keep_unsent(
    lines: Sequence[bytes],
    uri: str,
    run_id: str | None,
    status: str,
    experiment: str,
    create: Mapping[str, Any],
) -> Path:
    """Write ``lines`` to a new file that `send_unsent` finds, and return its path.

    Args:
        run_id: None where the store never made the run; then it is created in ``experiment`` with ``create``, the
            arguments of `MlflowClient.create_run`.

    Raises:
        OSError: the disk is full, for example.
    """
    owner = Owner(
        store=configuration_hash(uri),
        run_id=run_id,
        status=status,
        experiment=experiment,
        create=dict(create),
    )
    path = _folder() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:8]}.jsonl"
    _write(path, owner, lines)
    return path


def send_unsent(client: Any, uri: str) -> None:
    """Send what earlier processes could not send to the store at ``uri``, and delete it.

    A file that cannot be read, or that the store refuses, is named and stays; the others are sent.

    Raises:
        Exception: the store is not responding.
    """
    for path in sorted(_folder().glob("*.jsonl")):
        with ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                owner, lines = Owner.model_validate_json(file.readline()), file.readlines()
            except BlockingIOError:  # another process is sending it
                continue
            except (ValidationError, OSError) as error:
                print(f"warning: {path}: not a file of points ({one_line(error)}); delete it")
                continue
            if owner.store == configuration_hash(uri) and path.exists():
                _send_file(client, uri, path, owner, lines)


def _send_file(client: Any, uri: str, path: Path, owner: Owner, lines: list[bytes]) -> None:
    points = parse_points(lines)
    try:
        if owner.run_id is None:
            owner.run_id = create_run(client, owner.experiment, owner.create)
            _write(path, owner, lines)
        refused = log_points(client, owner.run_id, points)
        client.set_terminated(owner.run_id, owner.status, max((point.time for point in points), default=None))
    except Exception as error:
        if not is_refusal(error):
            raise
        print(
            f"warning: MLflow refused the points kept in {path}: {one_line(error)}; delete it if they may go"
        )
        return
    path.unlink()
    print(
        f"MLflow at {without_credentials(uri)} has taken {len(points)} points of run {owner.run_id} that were kept "
        f"in {path}" + (f", but refused {', '.join(refused)}" if refused else "")
    )


def forget_copies(points: bytes) -> None:
    """Delete the files whose points an outbox that is resumed still has, as it sends them itself."""
    own = set(points.splitlines())
    for path in _folder().glob("*.jsonl") if own else ():
        with suppress(OSError):  # one that cannot be read is no copy; `send_unsent` names it
            if own.issuperset(path.read_bytes().splitlines()[1:]):
                path.unlink()


def _folder() -> Path:
    return repository_root() / ".work/unsent"


def _write(path: Path, owner: Owner, lines: Sequence[bytes]) -> None:
    write_atomically(path, owner.model_dump_json().encode() + b"\n" + b"".join(lines))
