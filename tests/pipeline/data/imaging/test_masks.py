"""Masks are read exactly or refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.imaging.decode import CorruptImageError
from pipeline.data.imaging.masks import decode_mask, read_mask, resize_mask, to_train_ids
from pipeline.data.imaging.resize import Resizer
from pipeline.data.raw.listing import UNKNOWN, Labels
from tests.pipeline.data.imaging.handmade import png_file
from tests.pipeline.workshop import encoded, noise

Pixels = NDArray[np.uint8]


@pytest.mark.parametrize("colour", [0, 3])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_ids_of_every_depth_are_those_stored(depth: int, colour: int) -> None:
    """Grey and palette: one row with every id once."""
    count = 2**depth
    bits = "".join(f"{value:0{depth}b}" for value in range(count)).ljust(8, "0")
    data = png_file(int(bits, 2).to_bytes(len(bits) // 8), count, 1, depth, colour)
    assert decode_mask(data).tolist() == [list(range(count))]


def test_a_transparent_entry_changes_no_id() -> None:
    data = png_file(bytes([0, 1, 2]), 3, 1, 8, 3, transparent=b"\0\xff\0")
    assert decode_mask(data).tolist() == [[0, 1, 2]]
    assert decode_mask(png_file(b"\x1b", 4, 1, 2, 0, transparent=b"\0\x01")).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_are_taken(kind: str) -> None:
    ids = noise(9, 7, 1)
    np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(ids), kind)), ids)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_masks_of_booleans_hold_0_and_1(kind: str) -> None:
    ids = noise(9, 7, 1) > 127
    np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(ids), kind)), ids.astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_formats_that_change_ids_are_refused(kind: str) -> None:
    with pytest.raises(
        CorruptImageError, match=f"mask is a {kind} file, which may change ids; save it as PNG"
    ):
        decode_mask(encoded(Image.new("L", (16, 16)), kind))


def test_a_tiff_of_jpegs_is_refused() -> None:
    with pytest.raises(CorruptImageError, match="may change ids"):
        decode_mask(encoded(Image.new("L", (16, 16)), "TIFF", compression="jpeg"))


def test_what_pillow_would_scale_or_invert_is_refused() -> None:
    for data in (b"P5 2 1 20\n\x00\x14", b"P4 8 1\n\x0f"):
        with pytest.raises(CorruptImageError, match="expected 8-bit ids"):
            decode_mask(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "LA"])
def test_a_mask_that_holds_no_ids_is_corrupt(mode: str) -> None:
    with pytest.raises(CorruptImageError, match="expected 8-bit ids"):
        decode_mask(encoded(Image.new(mode, (4, 4)), "PNG"))


def test_several_frames_are_refused() -> None:
    frames = [Image.fromarray(noise(8, 8, 1, seed)) for seed in range(2)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(CorruptImageError, match="several frames"):
        decode_mask(data)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_is_turned_as_its_image_is(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    ids = noise(4, 6, 1)
    data = encoded(Image.fromarray(ids), "PNG", exif=exif)
    image, _ = Resizer(1, "box", "squash").decode(data, ((8, 8),))
    np.testing.assert_array_equal(decode_mask(data), image)
    assert not np.array_equal(image, ids)


def test_unknown_ids_are_named() -> None:
    labels = Labels((0, 1, 255, *[UNKNOWN] * 253), ((0, 0, 0), (1, 1, 1)))
    assert to_train_ids(np.array([[0, 1, 2]], np.uint8), labels).tolist() == [[0, 1, 255]]
    with pytest.raises(CorruptImageError, match=r"mask has id 9, which does not exist \(3 ids do, 0 to 2\)"):
        to_train_ids(np.array([[0, 9]], np.uint8), labels)
    with pytest.raises(CorruptImageError, match=r"mask has ids 3, 4, 5, 6, 7, ..., which do not exist"):
        to_train_ids(np.arange(9, dtype=np.uint8)[None], labels)


def test_masks_are_resized_by_the_nearest_pixel() -> None:
    mask = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    assert resize_mask(mask, (2, 2), "squash").tolist() == [[6, 8], [14, 16]]
    assert resize_mask(mask, (8, 8), "squash").tolist() == mask.repeat(2, axis=0).repeat(2, axis=1).tolist()
    big = noise(50, 70, 1)
    assert set(np.unique(resize_mask(big, (13, 17), "squash"))) <= set(np.unique(big))


def test_image_and_mask_are_cropped_alike() -> None:
    image, mask = noise(10, 20), noise(10, 20, 1)
    cropped = Resizer(3, "box", "center_crop").resize(image, (10, 10))
    np.testing.assert_array_equal(cropped, image[:, 5:15])
    np.testing.assert_array_equal(resize_mask(mask, (10, 10), "center_crop"), mask[:, 5:15])


ROAD, CAR, VOID = (128, 64, 128), (0, 0, 142), (0, 0, 0)
COLOURED = Labels((UNKNOWN,) * 256, (ROAD, CAR), ((CAR, 1), (ROAD, 0), ((0, 0, 143), 1), (VOID, 255)))


def coloured(ids: list[list[int]], colours: Sequence[tuple[int, ...]], mode: str = "RGB") -> bytes:
    """A PNG with a colour for each id, stored as ``mode``."""
    pixels = np.array(colours, np.uint8)[np.array(ids)]
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.fromarray(np.array(ids, np.uint8), "P")
        image.putpalette(np.array(colours, np.uint8).tobytes())
    elif mode == "RGBA":
        image.putalpha(255)
    return encoded(image, "PNG")


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_colours_become_train_ids(mode: str) -> None:
    data = coloured([[0, 1, 2], [3, 1, 0]], [ROAD, CAR, VOID, (0, 0, 143)], mode)
    assert read_mask(data, COLOURED).tolist() == [[0, 1, 255], [1, 1, 0]]


def test_colours_that_no_class_has_are_named() -> None:
    near = (128, 64, 127)
    data = coloured([[0, 1], [2, 2]], [ROAD, near, (255, 255, 255)])
    with pytest.raises(
        CorruptImageError, match=r"no class has: \[128, 64, 127\], \[255, 255, 255\] \(4 are known\)"
    ):
        read_mask(data, COLOURED)
    many = coloured([list(range(9))], [(i, i, 1) for i in range(9)])
    with pytest.raises(CorruptImageError, match=r"\[4, 4, 1\], \.\.\."):
        read_mask(many, COLOURED)


def test_ids_where_colours_are_expected_and_the_reverse_are_refused() -> None:
    with pytest.raises(CorruptImageError, match="mask is a L image, expected 8-bit colours"):
        read_mask(encoded(Image.new("L", (4, 4)), "PNG"), COLOURED)
    with pytest.raises(CorruptImageError, match=r"options\.colours gives the classes"):
        decode_mask(encoded(Image.new("RGB", (4, 4)), "PNG"))


def test_colours_that_are_lossy_or_see_through_are_refused() -> None:
    with pytest.raises(CorruptImageError, match="JPEG"):
        read_mask(encoded(Image.new("RGB", (4, 4)), "JPEG"), COLOURED)
    with pytest.raises(CorruptImageError, match="partly transparent"):
        read_mask(encoded(Image.new("RGBA", (4, 4), (*ROAD, 254)), "PNG"), COLOURED)
