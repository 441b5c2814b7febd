"""Pixels are right or refused: every depth, range and kind of transparency, against arrays made by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from pipeline.data.imaging import decode as decoding
from pipeline.data.imaging import pixels as conversion
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.resize import Resizer
from tests.pipeline.data.imaging.handmade import png_file
from tests.pipeline.workshop import encoded, noise, png

Pixels = NDArray[np.uint8]


def decode(data: bytes, channels: int = 3) -> Pixels:
    return Resizer(3 if channels == 3 else 1, "box", "squash").decode(data, ((8, 8),))[0]


def stored(values: NDArray[Any], kind: str = "TIFF") -> bytes:
    return encoded(Image.fromarray(values), kind)


def ramp(low: float, high: float, dtype: Any) -> NDArray[Any]:
    return np.tile(np.linspace(low, high, 32), (4, 1)).astype(dtype)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_become_their_high_byte(kind: str) -> None:
    values = ramp(0, 65535, np.uint16)
    np.testing.assert_array_equal(decode(stored(values, kind), 1), values >> 8)
    np.testing.assert_array_equal(decode(stored(values, kind))[..., 1], values >> 8)


def test_sixteen_bits_per_colour_become_their_high_byte() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(">u2")
    np.testing.assert_array_equal(decode(png_file(values.tobytes(), 7, 5, 16, 2)), values >> 8)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_fewer_bits_in_sixteen_are_refused(bits: int, kind: str) -> None:
    highest = 2**bits - 1
    with pytest.raises(CorruptImageError, match=f"16-bit pixels up to {highest}, fewer than 15 bits"):
        decode(stored(ramp(0, highest, np.uint16), kind))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [8, 12, 14])
def test_fewer_bits_in_sixteen_per_colour_are_refused(bits: int, colour: int, channels: int) -> None:
    """With an opaque alpha, and with one of as few bits, which would make all of it white."""
    for alpha in (2**bits - 1, 65535):
        values = np.random.default_rng(0).integers(0, 2**bits, (5, 7, channels)).astype(">u2")
        if channels in (2, 4):
            values[..., -1] = alpha
        with pytest.raises(CorruptImageError, match="fewer than 15 bits"):
            decode(png_file(values.tobytes(), 7, 5, 16, colour))


def test_a_black_image_of_sixteen_bits_is_black() -> None:
    assert decode(stored(np.zeros((4, 4), np.uint16), "PNG")).max() == 0


def test_a_pgm_says_which_value_is_white() -> None:
    data = b"P5 2 1 4095\n" + np.array([0, 4095], ">u2").tobytes()
    assert decode(data, 1).tolist() == [[0, 255]]


def test_floats_from_0_to_1_are_scaled() -> None:
    values = ramp(0, 1, np.float32)
    np.testing.assert_array_equal(decode(stored(values), 1), np.round(values * 255))


@pytest.mark.parametrize(
    "values",
    [
        ramp(0, 255, np.float32),
        ramp(-1, 1, np.float32),
        ramp(0, 1.5, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.array([[0, np.inf]], np.float32),
        np.array([[0.5, np.nan]], np.float32),
    ],
)
def test_other_floats_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(CorruptImageError, match=r"float pixels from .* to .*; read are 0 to 1"):
        decode(stored(values))


@pytest.mark.parametrize("values", [ramp(0, 255, np.int32), ramp(-9, 70000, np.int32)])
def test_32_bit_integers_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(CorruptImageError, match="integer pixels of unknown range"):
        decode(stored(values))


def test_signed_16_bit_integers_are_refused() -> None:
    signed = TiffImagePlugin.ImageFileDirectory_v2()
    signed[TiffImagePlugin.SAMPLEFORMAT] = 2
    data = encoded(Image.fromarray(ramp(0, 30000, np.uint16)), "TIFF", tiffinfo=signed)
    with pytest.raises(CorruptImageError, match="integer pixels of unknown range"):
        decode(data)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white_in_every_depth(depth: int) -> None:
    """The values 0 and 1 side by side, 1 transparent; the greatest value keeps a 16-bit image in range."""
    highest = 2**depth - 1
    values = [0, 1, 0, highest]
    bits = "".join(f"{value:0{depth}b}" for value in values).ljust(8, "0")
    row = int(bits, 2).to_bytes(len(bits) // 8)
    data = png_file(row, 4, 1, depth, 0, transparent=(1).to_bytes(2))
    assert decode(data)[0].tolist() == [[0] * 3, [255] * 3, [0] * 3, [255] * 3]
    assert decode(data, 1)[0].tolist() == [0, 255, 0, 255]


def test_a_transparent_colour_is_white() -> None:
    values = np.array([[[9, 8, 7], [9, 8, 6]]], np.uint8)
    data = png_file(values.tobytes(), 2, 1, 8, 2, transparent=b"\0\x09\0\x08\0\x07")
    assert decode(data)[0].tolist() == [[255, 255, 255], [9, 8, 6]]
    wide = png_file(np.full((1, 2, 3), 60000, ">u2").tobytes(), 2, 1, 16, 2, transparent=b"\0\x09" * 3)
    with pytest.raises(CorruptImageError, match="16-bit colours of which one is transparent"):
        decode(wide)


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        data = encoded(image, kind, transparency=1)
        assert decode(data)[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(37, 19, 4)
    images = [png(pixels), encoded(Image.fromarray(pixels[..., :3]).quantize(9), "PNG", transparency=2)]
    images.append(stored(ramp(0, 65535, np.uint16), "PNG"))
    whole = [decode(data) for data in images]
    monkeypatch.setattr(conversion, "STRIP", 50)
    for data, expected in zip(images, whole, strict=True):
        np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TGA", "PCX", "PDF", "IM"])
def test_formats_beyond_the_list_are_no_images(kind: str) -> None:
    data = encoded(Image.fromarray(noise(16, 16)), kind)
    with pytest.raises(CorruptImageError, match=r"is not an image \(decoded are JPEG, PNG"):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "JPEG2000", "WEBP"])
def test_newer_formats_are_read(kind: str) -> None:
    image = decode(encoded(Image.new("RGB", (16, 16), (200, 100, 50)), kind)).astype(int)
    assert np.abs(image - (200, 100, 50)).max() <= 6


@pytest.mark.parametrize("side", [8193, 13000, 40000])
def test_one_limit_of_pixels_for_all(side: int) -> None:
    """Just above it, above where Pillow warns, and above where Pillow refuses by itself."""
    data = png_file(b"", side, side, 1, 0)
    with pytest.raises(CorruptImageError, match=f"more than {decoding.MAX_PIXELS} pixels are refused"):
        decode(data)


def test_nothing_is_converted_that_has_the_channels_already() -> None:
    grey, colour = noise(4, 5, 1), noise(4, 5)
    assert Resizer(1, "box", "squash").convert(grey) is grey
    assert Resizer(3, "box", "squash").convert(colour) is colour
    np.testing.assert_array_equal(Resizer(3, "box", "squash").convert(grey), grey[..., None].repeat(3, 2))
    expected = np.asarray(Image.open(io.BytesIO(png(colour))).convert("L"))
    np.testing.assert_array_equal(Resizer(1, "box", "squash").convert(colour), expected)
