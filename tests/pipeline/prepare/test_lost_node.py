"""A Ray cluster of two nodes, one of which is gone while it works."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.prepare.executors import run_ray
from tests.pipeline.workshop import Workshop, noise, png

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # as `run_ray` does, before Ray is imported
ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Its head, with one core; the tests are connected to it."""
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False}, connect=False
    )
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def doomed(cluster: Any) -> Any:
    """One more node, with one core."""
    node = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    return node


@pytest.mark.slow
def test_the_units_of_a_lost_node_run_again_on_another(cluster: Any, doomed: Any, tmp_path: Path) -> None:
    names = [f"unit-{i}" for i in range(6)]

    def unit(name: str) -> str:
        """Tell that it has begun, and where; on a node that is to be lost it never ends."""
        import time

        import ray

        here = ray.get_runtime_context().get_node_id()
        (tmp_path / f"{name}.{here}").touch()
        while (tmp_path / f"doomed.{here}").exists():
            time.sleep(0.1)
        return name

    (tmp_path / f"doomed.{doomed.node_id}").touch()
    begun: list[Path] = []

    def strike() -> None:
        while not begun:
            begun.extend(tmp_path.glob(f"unit-*.{doomed.node_id}"))
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)

    striker = threading.Thread(target=strike)
    striker.start()
    assert sorted(run_ray(unit, names, 2)) == names
    striker.join()
    lost = begun[0].name.split(".")[0]
    assert len(list(tmp_path.glob(f"{lost}.*"))) == 2  # begun on the lost node, done on the other


@pytest.mark.slow
def test_preparing_ends_with_the_same_bytes(cluster: Any, doomed: Any, workshop: Workshop) -> None:
    for split in ("train", "val"):
        for i in range(120):
            workshop.write(f"{split}/{'ab'[i % 2]}/{i}.png", png(noise(300, 300, seed=i)))
    settings: dict[str, Any] = {"samples_per_shard": 8, "sizes": [[32, 32], [16, 16]]}
    want = workshop.fresh(**settings)
    left: list[int] = []

    def strike() -> None:
        while not (done := list(Path(".work/prepare").glob("*/records/*.json"))):
            time.sleep(0.01)
        cluster.remove_node(doomed, allow_graceful=False)
        left.append(len(done))

    striker = threading.Thread(target=strike)
    for folder in ("data/shards", ".work"):
        Path(folder).rename(f"{folder}.before")
    striker.start()
    workshop.prepare(workshop.params(engine="ray", **settings))
    striker.join()
    assert left[0] < len(want) // 2 - 1  # most of it was still to do
    assert workshop.snapshot() == want
