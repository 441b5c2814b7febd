"""Decoding what ImageNet and users really have, and resizing checked against Pillow and OpenCV."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import decode_mask
from pipeline.data.imaging.resize import Resizer, box_resize, crop_box
from tests.pipeline.workshop import encoded, noise, png

Pixels = NDArray[np.uint8]
RGB = Resizer(3, "box", "squash")
GREY = Resizer(1, "box", "squash")


def smooth(height: int, width: int) -> Pixels:
    """A picture without hard edges: JPEG keeps it nearly as it is."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 / height, columns * 255 / width, (rows + columns) * 255 / (height + width)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def decode(data: bytes, resizer: Resizer = RGB) -> Pixels:
    return resizer.decode(data, ((8, 8),))[0]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (375, 500), (100, 333), (63, 65), (20, 200), (5, 7)])
def test_box_is_pillows_up_to_its_second_rounding(height: int, width: int) -> None:
    image = noise(height, width)
    theirs = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BOX)).astype(int)
    assert np.abs(box_resize(image, (64, 64)) - theirs).max() <= 1


def test_box_by_hand() -> None:
    image = np.array([[0, 1, 10, 10], [0, 1, 10, 11]], np.uint8)
    assert box_resize(image, (1, 2)).tolist() == [[1, 10]]  # 2/4 rounds up, 41/4 = 10.25 down
    assert box_resize(image, (2, 1)).tolist() == [[5], [6]]  # 21/4 = 5.25, 22/4 = 5.5


def test_area_is_opencvs() -> None:
    image = noise(37, 53)
    ours = Resizer(3, "area", "squash").resize(image, (10, 12))
    np.testing.assert_array_equal(ours, cv2.resize(image, (12, 10), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("name", "kind"), [("lanczos", Image.Resampling.LANCZOS), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_other_filters_are_pillows(name: str, kind: Image.Resampling) -> None:
    image = noise(37, 53)
    ours = Resizer(3, name, "squash").resize(image, (10, 12))
    np.testing.assert_array_equal(ours, np.asarray(Image.fromarray(image).resize((12, 10), kind)))


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpegs_decode_to_pillows_pixels(quality: int, subsampling: int) -> None:
    data = encoded(Image.fromarray(noise(61, 83)), "JPEG", quality=quality, subsampling=subsampling)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_fast_is_near_box() -> None:
    data = encoded(Image.fromarray(smooth(400, 500)), "JPEG", quality=90)
    fast = Resizer(3, "fast", "squash")
    scaled, size = fast.decode(data, ((64, 64),))
    assert size == (400, 500)
    assert 128 <= min(scaled.shape[:2]) < 400
    error = fast.resize(scaled, (64, 64)).astype(float) - RGB.resize(decode(data), (64, 64))
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 35


def test_cmyk_jpeg() -> None:
    """ImageNet has 22 of them; Adobe's are stored inverted, which Pillow undoes."""
    picture = Image.fromarray(smooth(40, 50))
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(decode(data).astype(int) - np.asarray(picture)).mean() < 4


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    image = decode(encoded(Image.fromarray(values), "PNG"), GREY)
    np.testing.assert_array_equal(image, np.arange(256).reshape(16, 16))


def test_palette_grey_and_one_bit_become_rgb() -> None:
    picture = Image.fromarray(smooth(16, 16))
    palette = picture.quantize(16)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    grey = picture.convert("L")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG")), np.asarray(grey)[..., None].repeat(3, axis=2))
    bits = picture.convert("1")
    np.testing.assert_array_equal(decode(encoded(bits, "PNG")), np.asarray(bits.convert("RGB")))
    np.testing.assert_array_equal(decode(encoded(picture, "PNG"), GREY), np.asarray(grey))


def test_transparent_pixels_lie_on_white() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0] = (200, 100, 50, 255)
    image = decode(encoded(Image.fromarray(pixels), "PNG"))
    assert image[0, 0].tolist() == [200, 100, 50]
    assert image[1, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation: int) -> None:
    """Each of the eight orientations, made by turning an upright picture the opposite way."""
    upright = Image.fromarray(smooth(32, 48))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for resizer in (RGB, Resizer(3, "fast", "squash")):
        image, size = resizer.decode(encoded(stored, "JPEG", quality=95, exif=exif), ((32, 48),))
        assert size == (32, 48)
        assert np.abs(image.astype(int) - np.asarray(upright)).mean() < 3


def test_content_counts_not_the_name() -> None:
    """ImageNet's n02105855_2933.JPEG is a PNG: only the bytes are looked at."""
    image = noise(9, 9)
    np.testing.assert_array_equal(decode(png(image)), image)


@pytest.mark.parametrize("filter_name", ["box", "fast"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_a_truncated_jpeg_is_corrupt(kept: float, filter_name: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), "JPEG")
    with pytest.raises(CorruptImageError):
        decode(data[: int(len(data) * kept)], Resizer(3, filter_name, "squash"))


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff"])
def test_what_is_no_image_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptImageError, match="not an image"):
        decode(data)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_bytes_are_an_image_or_corrupt_and_nothing_else(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.data.imaging.decode.MAX_PIXELS", 100_000
    )  # damaged sizes are huge, and slow to decode
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("JPEG", "WEBP", "PNG") else {}
    whole = encoded(Image.fromarray(noise(24, 24)), kind, **options)
    random = np.random.default_rng(0)
    corrupt = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 400), 4):
            data[place] = random.integers(256)
        try:
            assert decode(bytes(data)).dtype == np.uint8
        except CorruptImageError:
            corrupt += 1
    assert corrupt > 0


def test_a_decompression_bomb_is_refused_before_decoding() -> None:
    """A PNG of 1 kB that says it has 20000 x 20000 pixels."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    for read in (decode, decode_mask):
        with pytest.raises(CorruptImageError, match="pixels"):
            read(bytes(data))


def test_center_crop_keeps_the_shape() -> None:
    assert crop_box((100, 200), (50, 50), "center_crop") == (50, 0, 150, 100)
    assert crop_box((200, 100), (64, 128), "center_crop") == (0, 75, 100, 125)
    assert crop_box((100, 200), (50, 50), "squash") == (0, 0, 200, 100)
