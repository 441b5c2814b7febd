"""Beyond one machine: a real Ray cluster and a real S3 server, both started here."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import webdataset

from pipeline.core.errors import UserError
from pipeline.core.storage import Storage
from pipeline.data.raw.listing import Sample
from pipeline.data.shards.manifest import FILE_NAME, read_manifest
from pipeline.data.shards.verify import verify
from pipeline.prepare import convert
from pipeline.prepare.executors import run_ray
from tests.pipeline.workshop import Workshop, noise, png

ray = pytest.importorskip("ray")
moto_server = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket; the server is found through the environment, as a user's own would be."""
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"shelf-{uuid.uuid4().hex}"  # moto's buckets outlive its servers
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/shards"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_gives_the_same_bytes(workshop: Workshop) -> None:
    workshop.classes(images=6)
    workshop.prepare(samples_per_shard=2)
    want = workshop.snapshot()
    assert workshop.fresh(workshop.params(engine="ray", samples_per_shard=2)) == want


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_lost_ray_worker_is_replaced(tmp_path: Path) -> None:
    """Each unit kills its own process the first time it runs, as if memory had run out."""

    def unit(name: str) -> str:
        import os
        import signal

        marker = tmp_path / name
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return name

    assert sorted(run_ray(unit, ["a", "b", "c"], 2)) == ["a", "b", "c"]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_unit_lost_again_and_again_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.prepare.executors.RETRIES", 1)

    def unit(name: str) -> str:
        import os

        os._exit(1)
        return name

    with pytest.raises(UserError, match="a worker was lost 1 times"):
        list(run_ray(unit, ["a"], 2))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_errors_of_a_ray_worker_are_the_users(workshop: Workshop) -> None:
    workshop.classes()
    workshop.write("train/cat/bad.png", b"x")
    with pytest.raises(UserError, match="1 corrupt"):
        workshop.prepare(workshop.params(engine="ray"))

    def unit(name: str) -> str:
        raise UserError(f"{name} is wrong")

    with pytest.raises(UserError, match="a is wrong"):
        list(run_ray(unit, ["a"], 2))


def test_shards_in_an_object_store_are_those_of_the_disk(workshop: Workshop, bucket: str) -> None:
    workshop.classes(images=6)
    workshop.prepare(samples_per_shard=2)
    want = workshop.snapshot()
    shutil.rmtree("data/shards")
    params = workshop.params(output=bucket, samples_per_shard=2)
    for _ in range(2):  # the second time over the first one's shards
        workshop.prepare(params)
        shelf = Storage(f"{bucket}/own")
        assert {name: shelf.read(name) for name in shelf.names()} == want
    local = read_manifest(workshop.shards())
    assert local.location == f"{bucket}/own/8x8"
    assert list(workshop.snapshot()) == ["8x8/manifest.json"]
    shards = sum(name.endswith(".tar") for name in want)
    assert f"all {shards} shards are whole, 24 samples" in verify(workshop.shards())


def test_an_interrupted_upload_goes_on(workshop: Workshop, bucket: str) -> None:
    workshop.classes(images=6)
    workshop.prepare(workshop.params(output=bucket, samples_per_shard=2))
    shelf = Storage(f"{bucket}/own")
    want = {name: shelf.read(name) for name in shelf.names()}
    workshop.write("val/dog/bad.png", b"x")
    with pytest.raises(UserError, match="1 corrupt"):
        workshop.prepare(workshop.params(output=bucket, samples_per_shard=2))
    assert shelf.read(f"8x8/{FILE_NAME}") is None  # what is half-done has no manifest
    assert any(".records" in name for name in shelf.names())
    (workshop.raw / "val/dog/bad.png").unlink()
    workshop.prepare(workshop.params(output=bucket, samples_per_shard=2))
    assert {name: shelf.read(name) for name in shelf.names() if ".records" not in name} == want


def test_shards_in_the_store_that_still_hold_stay(
    workshop: Workshop, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.classes(images=12)
    params = workshop.params(output=bucket, samples_per_shard=4)
    workshop.prepare(params)
    workshop.write("train/cat/new.png", png(noise(9, 9)))
    names: list[str] = []
    read = convert._read

    def seen(sample: Sample, *others: Any) -> Any:
        names.append(sample.name)
        return read(sample, *others)

    monkeypatch.setattr(convert, "_read", seen)
    workshop.prepare(params)
    assert "train/cat/new.png" in names
    assert len(names) <= 5
    shelf = Storage(f"{bucket}/own")
    got = {name: shelf.read(name) for name in shelf.names()}
    assert workshop.fresh(samples_per_shard=4) == got


def test_raw_files_may_lie_in_an_object_store(workshop: Workshop, bucket: str) -> None:
    workshop.classes(images=4)
    workshop.prepare(samples_per_shard=2)
    want = workshop.snapshot()
    raw = bucket.replace("/shards", "/raw")
    s3fs.S3FileSystem().put(str(workshop.raw), raw, recursive=True)
    params = workshop.params(samples_per_shard=2)
    machine = params.machine.model_copy(update={"roots": {"own": raw}})
    workshop.prepare(params.model_copy(update={"machine": machine}))
    assert workshop.snapshot() == want


def test_stock_webdataset_streams_from_the_store(workshop: Workshop, bucket: str) -> None:
    import fsspec

    workshop.classes(images=3)
    manifest = workshop.prepare(workshop.params(output=bucket, samples_per_shard=100))[0]
    with fsspec.open(f"{bucket}/own/8x8/{manifest.splits['train'].shards[0].name}") as stream:
        samples = webdataset.tariterators.tar_file_expander([{"url": "x", "stream": stream}])
        assert sum("data" in sample for sample in samples) == 12  # two members of six samples


def test_verify_names_what_is_wrong(workshop: Workshop) -> None:
    workshop.classes()
    manifest = workshop.prepare()[0]
    assert "all 2 shards are whole, 12 samples" in verify(workshop.shards())
    stranger = workshop.shards() / "train-000007.tar"
    stranger.write_bytes(b"x")
    with pytest.raises(UserError, match=r"train-000007.tar is not in the manifest"):
        verify(workshop.shards())
    stranger.unlink()
    shard = workshop.shards() / manifest.splits["val"].shards[0].name
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"1 of 2 shards are not what was written, first val-000000.tar"):
        verify(workshop.shards())
