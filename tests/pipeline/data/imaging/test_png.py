"""PNG files that were damaged on their way: none becomes an image that is partly black."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import decode_mask
from pipeline.data.imaging.resize import Resizer
from tests.pipeline.data.imaging.handmade import SIGNATURE, chunk, png_file
from tests.pipeline.workshop import encoded, noise


def corrupt(data: bytes, match: str) -> None:
    with pytest.raises(CorruptImageError, match=match):
        Resizer(3, "box", "squash").decode(data, ((8, 8),))
    with pytest.raises(CorruptImageError, match=match):
        decode_mask(data)


def smooth() -> bytes:
    rows, columns = np.mgrid[0:150, 0:200]
    image = 128 + 60 * np.sin(columns / 9) + 40 * np.cos(rows / 11)
    return encoded(Image.fromarray(image.astype(np.uint8)), "PNG")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_tail_of_zeros_or_none(part: float) -> None:
    data = smooth()
    kept = int(len(data) * part)
    corrupt(data[:kept] + bytes(len(data) - kept), "PNG|IDAT|checksum|chunk")
    corrupt(data[:kept], "PNG|truncated|chunk")


def test_a_wrong_checksum_anywhere() -> None:
    data = smooth()
    for place in (29, len(data) // 2, len(data) - 1):
        corrupt(
            data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], "checksum|broken PNG|not an image"
        )


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps, of each pass (specification, section 8.2)."""


def rows_of(image: NDArray[np.uint8], interlaced: bool) -> list[bytes]:
    """The rows as they lie in the file, a filter byte before each."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [image[row::down, column::across] for column, row, across, down in passes]
    return [b"\0" + line.tobytes() for part in parts for line in part if line.size]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("missing", [1, 5])
def test_pixels_that_end_early(interlaced: bool, missing: int) -> None:
    """The file is whole and its stream well formed; rows are missing."""
    rows = rows_of(np.full((16, 16), 99, np.uint8), interlaced)
    early = zlib.compress(b"".join(rows[:-missing]))
    match = "pixels of a PNG end before its last row|truncated|data stream"
    corrupt(png_file(b"", 16, 16, 8, 0, stream=early, interlaced=interlaced), match)
    cut = zlib.compress(b"".join(rows))[:-9]
    corrupt(png_file(b"", 16, 16, 8, 0, stream=cut, interlaced=interlaced), "truncated")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (8, 8), (13, 17)])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 3), (8, 2), (16, 6)])
def test_black_images_are_whole(width: int, height: int, depth: int, colour: int) -> None:
    """All of their rows are black, so their stream is counted: for a palette, its first colour."""
    channels = {0: 1, 3: 1, 2: 3, 6: 4}[colour]
    rows = bytes(-(-width * depth * channels // 8)) * height
    if depth == 16:
        rows = b"\xff" + rows[1:]  # in range; the last two rows stay black where there are more
    image, size = Resizer(3, "box", "squash").decode(png_file(rows, width, height, depth, colour), ((8, 8),))
    assert size == (height, width)
    assert image.shape == (height, width, 3)


def test_an_interlaced_image_that_ends_in_black() -> None:
    image = noise(13, 11)
    image[-4:] = 0
    rows = b"".join(rows_of(image, interlaced=True))
    data = png_file(b"", 11, 13, 8, 2, stream=zlib.compress(rows), interlaced=True)
    np.testing.assert_array_equal(Resizer(3, "box", "squash").decode(data, ((8, 8),))[0], image)


def test_what_lies_behind_the_end_does_not_matter() -> None:
    data = smooth()
    assert Resizer(3, "box", "squash").decode(data + bytes(100), ((8, 8),))[1] == (150, 200)


def test_a_file_of_nothing_but_its_signature() -> None:
    corrupt(SIGNATURE, "PNG|image")
    corrupt(SIGNATURE + chunk(b"IEND", b""), "PNG|image")
