"""Raw files made to do harm: each costs one line, and no more memory or time than is stated."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import struct
import tarfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pipeline.core.errors import UserError
from pipeline.data.raw import archives, compressed
from pipeline.data.raw.archives import tar_gz_files, tar_members, zip_members
from pipeline.data.raw.blobs import Blob
from pipeline.data.raw.compressed import decompressed, inflate_gzip
from pipeline.data.raw.matlab import load_mat
from pipeline.data.raw.pickles import PickledArray, load_pickle
from tests.pipeline.data.readers.raw import tar_gz, tar_of, zip_of
from tests.pipeline.workshop import Workshop, noise, png

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def blob_of(folder: Path, data: bytes) -> Blob:
    path = folder / "file"
    path.write_bytes(data)
    return Blob(str(path), 0, len(data))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_pickle_of_plain_data_is_read_as_python_reads_it(protocol: int) -> None:
    content = {
        "data": ARRAY,
        "labels": [1, 300, 70_000, -5, 2**40],
        "names": ["a", b"b"],
        "mean": 0.5,
        "none": (None, True),
    }
    got = load_pickle(pickle.dumps(content, protocol), "x")
    array = got.pop("data")
    assert isinstance(array, PickledArray)
    assert (array.shape, array.dtype, array.fortran, bytes(array.data)) == (
        (3, 4),
        "u1",
        False,
        ARRAY.tobytes(),
    )
    assert got == {name: value for name, value in content.items() if name != "data"}


def test_python_2_s_strings_are_read() -> None:
    """Opcodes by hand, as cPickle wrote CIFAR's: U and T for bytes."""
    data = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x06K\x09eU\x04dataq\x04T\x03\x00\x00\x00abcu."
    assert load_pickle(data, "x") == {"labels": [6, 9], "data": b"abc"}


REFUSED_PICKLES = {
    "a memo index of 1.5 GB": b"\x80\x02}r\xff\xff\xff\x5f",
    "bytes longer than the file": b"\x80\x03B\xff\xff\xff\x7f.",
    "eight bytes of length": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a key that is a tuple": b"\x80\x02}))K\x01s.",
    "a nested key whose hash never ends": b"\x80\x02}" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"K\x01s.",
    "an array that is an array's dtype": b"\x80\x02cnumpy\nndarray\n)R.",
    "a list that grows by itself": b"\x80\x02]q\x00h\x00K\x01s.",
    "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "text repeated without end": (
        b"\x80\x02c_codecs\nencode\nq\x00X\x00\x04\x00\x00" + b"a" * 1024 + b"q\x01"
        + b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R" * 50 + b"."
    ),
    "no end": b"\x80\x02}",
    "nothing": b"",
    "a mark only": b"\x80\x02(.",
    "no mark": b"\x80\x02K\x01t.",
    "an old protocol": pickle.dumps({"a": 1}, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_PICKLES)
def test_hostile_pickles_are_refused(case: str) -> None:
    with pytest.raises(UserError, match=r"x: (not a pickle of arrays|holds a)"):
        load_pickle(REFUSED_PICKLES[case], "x")


@pytest.mark.parametrize("dtype", [np.object_, np.float32, np.int8])
def test_arrays_of_other_types_are_no_images(workshop: Workshop, dtype: Any) -> None:
    batch = pickle.dumps({"data": np.zeros((1, 3072), dtype), "labels": [0]}, 2)
    meta = pickle.dumps({"label_names": ["a", "b"]}, 2)
    batches = {f"data_batch_{i}": batch for i in range(1, 6)}
    workshop.write("cifar-10-python.tar.gz", tar_gz({"batches.meta": meta, "test_batch": batch, **batches}))
    with pytest.raises(UserError, match=r"data_batch_1: (no uint8 rows|not a pickle)"):
        workshop.listing("cifar")


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_files_are_read_as_scipy_reads_them(compressed: bool) -> None:
    kinds = [("id", "O"), ("WNID", "O"), ("children", "O")]
    records = np.array([(1, "n01", np.arange(3)), (2.5, "n02é", np.zeros((0, 0)))], dtype=kinds).reshape(
        -1, 1
    )
    content = {
        "X": noise(3, 4, seed=1)[..., None], "y": np.array([[1.0], [2.0]]), "n": np.array([[2**40]]), "s": records,
    }  # fmt: skip
    buffer = io.BytesIO()
    savemat(buffer, content, do_compression=compressed)
    got = load_mat(buffer.getvalue(), {"X", "y", "n", "s"}, "x", {"id", "WNID"})
    theirs = loadmat(io.BytesIO(buffer.getvalue()))
    for name in ("X", "y", "n"):
        np.testing.assert_array_equal(got[name].squeeze(), theirs[name].squeeze())
    assert [(float(item["id"].item()), item["WNID"]) for item in got["s"]] == [(1, "n01"), (2.5, "n02é")]


def mutants(data: bytes, count: int, seed: int = 0) -> list[bytes]:
    """``data`` with one to four bytes changed, or cut short, ``count`` times."""
    choose = random.Random(seed)
    found = []
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(choose.randint(1, 4)):
            changed[choose.randrange(len(changed))] = choose.choice(
                (0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256))
            )
        found.append(
            bytes(changed[: choose.choice((len(changed), len(changed), choose.randrange(len(changed)))) or 1])
        )
    return found


def test_mutated_files_give_a_listing_or_one_line(tmp_path: Path) -> None:
    mat = io.BytesIO()
    savemat(mat, {"X": ARRAY, "s": np.array([(1, "n01")], dtype=[("id", "O"), ("WNID", "O")])})
    members = {"a/1.png": png(noise(3, 3)), "a/2.png": b"x" * 600}
    readers: list[tuple[bytes, Any]] = [
        (mat.getvalue(), lambda data: load_mat(data, {"X", "s"}, "x", {"id", "WNID"})),
        (pickle.dumps({"data": ARRAY, "labels": [1, 2]}, 2), lambda data: load_pickle(data, "x")),
        (tar_of(members)[:4096], lambda data: tar_members(blob_of(tmp_path, data), "x")),
        (zip_of(members), lambda data: zip_members(blob_of(tmp_path, data), "x")),
        (tar_gz(members), lambda data: tar_gz_files(blob_of(tmp_path, data), "x", lambda _: True)),
    ]
    for data, read in readers:
        for mutant in mutants(data, 150):
            with suppress(UserError):  # nothing else is raised
                read(mutant)


def tar_header(size: bytes, kind: bytes = b"0") -> bytes:
    """A header whose size field is ``size`` and whose checksum is right."""
    header = bytearray(tarfile.TarInfo("train/a/1.png").tobuf())
    header[124:136], header[156:157], header[148:156] = size.ljust(12, b"\0"), kind, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "size", [b"-0000001000", b"0xfff", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777"]
)
@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"g", b"S"])
def test_sizes_in_tar_headers_are_checked(tmp_path: Path, size: bytes, kind: bytes) -> None:
    data = tar_header(size, kind) + tar_of({"b": b"1"})
    for archive in (data, tar_of({"a": b"1"})[:1024] + data):
        with pytest.raises(UserError, match="not a whole tar archive"):
            tar_members(blob_of(tmp_path, archive), "archive")


def test_headers_that_announce_headers_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a whole tar archive"):
        tar_members(blob_of(tmp_path, tar_header(b"0", b"x") * 3000), "archive")


def bomb(start: bytes, megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(start), *(packer.compress(bytes(1 << 20)) for _ in range(megabytes))]
    return b"".join((*parts, packer.flush()))


def test_a_gzip_bomb_inflates_no_further_than_asked(tmp_path: Path) -> None:
    blob = blob_of(tmp_path, bomb(b"start", 20))
    assert inflate_gzip(blob, "x", 10) == b"start" + bytes(5)


def test_an_idx_file_inflates_no_further_than_its_header_says(workshop: Workshop) -> None:
    for prefix in ("train", "t10k"):
        workshop.write(
            f"{prefix}-images-idx3-ubyte.gz", bomb(b"\0\0\x08\x03" + struct.pack(">3I", 1, 28, 28), 20)
        )
        workshop.write(
            f"{prefix}-labels-idx1-ubyte.gz", gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 1) + b"1")
        )
    with pytest.raises(UserError, match=r"785 values or more, its header says \(1, 28, 28\)"):
        workshop.listing("mnist")


@pytest.mark.parametrize(
    "header", [b"\0\0\x08\x03" + b"\xff" * 12, b"\0\0\x08\xff" + b"\0" * 1020, b"\0\0\x08\0"]
)
def test_dimensions_of_an_idx_file_are_checked(workshop: Workshop, header: bytes) -> None:
    workshop.write("train-images-idx3-ubyte", header)
    workshop.write("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\0")
    with pytest.raises(UserError, match=r"(over \d+ bytes|axes)"):
        workshop.listing("mnist")


def test_a_compressed_tar_inflates_no_further_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "MIN_BOUND", 1 << 20)
    with pytest.raises(UserError, match=r"x.tar.gz: inflates to over 200 times"):
        decompressed(blob_of(tmp_path, bomb(b"", 20)), "x.tar.gz", tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_a_member_read_into_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(UserError, match=r"big has 101 bytes"):
        tar_gz_files(blob_of(tmp_path, tar_gz({"big": bytes(101)})), "x", lambda _: True)
