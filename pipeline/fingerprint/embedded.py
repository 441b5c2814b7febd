"""Data that comes with the project, real and offline, written out in genuine raw layouts.

``digits``: scikit-learn's 1,797 handwritten digits (UCI, 8x8, 16 grey levels) as a folder per class.
``digit_scenes``: scenes of those digits on textured ground in Cityscapes' layout. The digits' classes are
`DIGIT_LABEL_IDS`, the ground is ``road``, a digit's outline is ``unlabeled`` (ignored). No digit image is
drawn in two splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SEED = 0


DIGIT_LABEL_IDS = (24, 25, 26, 27, 28, 31, 32, 33, 19, 20)
"""Cityscapes label id of digit 0..9: person, rider, car, truck, bus, train, motorcycle, bicycle, traffic
light, traffic sign."""


ROAD, UNLABELED = 7, 0


SCENES = {"train": 200, "val": 40, "test": 40}


SCENE_SIZE = (64, 128)  # height, width in pixels


Floats = NDArray[np.float64]


Bytes = NDArray[np.uint8]


def digit_splits() -> dict[str, tuple[Floats, NDArray[np.int64], NDArray[np.int64]]]:
    """Return images float (N, 8, 8) in 0..16, labels (N,), indices (N,): 70/10/20 % of each class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    indices = np.arange(len(digits.target))
    rest, test = train_test_split(indices, test_size=0.2, stratify=digits.target, random_state=SEED)
    train, val = train_test_split(rest, test_size=0.125, stratify=digits.target[rest], random_state=SEED)
    parts = {"train": np.sort(train), "val": np.sort(val), "test": np.sort(test)}
    return {name: (digits.images[part], digits.target[part], part) for name, part in parts.items()}


def write_digits(root: Path) -> None:
    """Write ``<root>/<split>/<digit>/<index>.png``: 8x8 grey, 16 levels spread over 0..255."""
    for split, (images, classes, indices) in digit_splits().items():
        for image, label, index in zip(images, classes, indices, strict=True):
            folder = root / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(folder / f"{index:04d}.png")


def write_digit_scenes(root: Path) -> None:
    """Write ``leftImg8bit/<split>/digits/*_leftImg8bit.png`` (RGB) and ``gtFine/.../*_gtFine_labelIds.png``."""
    for part, (split, (images, classes, _)) in enumerate(digit_splits().items()):
        random = np.random.default_rng((SEED, part))
        image_folder, mask_folder = (
            root / "leftImg8bit" / split / "digits",
            root / "gtFine" / split / "digits",
        )
        image_folder.mkdir(parents=True)
        mask_folder.mkdir(parents=True)
        for number in range(SCENES[split]):
            scene, mask = draw_scene(images, classes, random)
            frame = f"digits_{number:06d}_000019"
            Image.fromarray(scene).save(image_folder / f"{frame}_leftImg8bit.png")
            Image.fromarray(mask).save(mask_folder / f"{frame}_gtFine_labelIds.png")


def draw_scene(
    images: Floats, classes: NDArray[np.int64], random: np.random.Generator
) -> tuple[Bytes, Bytes]:
    """Return a scene uint8 (H, W, 3) and its label ids uint8 (H, W): three to six digits that hardly overlap."""
    height, width = SCENE_SIZE
    scene = _ground(random)
    mask = np.full((height, width), ROAD, np.uint8)
    for _ in range(int(random.integers(3, 7))):
        index = int(random.integers(len(images)))
        side = int(random.integers(22, 45))
        spot = _free_spot(mask, side, random)
        if spot is None:
            continue
        ink = _enlarge(images[index] / 16, (side, side))
        _paint(scene, mask, ink, spot, DIGIT_LABEL_IDS[int(classes[index])], random)
    return np.clip(scene, 0, 255).astype(np.uint8), mask


def _ground(random: np.random.Generator) -> Floats:
    """Return a texture float (H, W, 3): smooth noise at three scales and stripes, tinted."""
    height, width = SCENE_SIZE
    rows, columns = np.mgrid[0:height, 0:width]
    angle, period = random.uniform(0, np.pi), random.uniform(5, 24)
    stripes = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * (2 * np.pi / period))
    texture = random.uniform(0.05, 0.3) * stripes
    for cells, strength in ((3, 0.5), (9, 0.25), (32, 0.15)):
        noise = random.standard_normal((cells, 2 * cells))
        texture = texture + strength * _enlarge(noise, (height, width))
    tint, light = random.uniform(0.55, 1.0, size=3), random.uniform(60, 170)
    return np.asarray((light + 45 * texture[..., None]) * tint)


def _enlarge(values: Floats, size: tuple[int, int]) -> Floats:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float64)


def _free_spot(mask: Bytes, side: int, random: np.random.Generator) -> tuple[int, int] | None:
    """Return the top left corner of a square that is nearly all road, or None after 20 tries."""
    for _ in range(20):
        top, left = (int(random.integers(0, length - side + 1)) for length in mask.shape)
        if (mask[top : top + side, left : left + side] != ROAD).mean() < 0.02:
            return top, left
    return None


def _paint(
    scene: Floats, mask: Bytes, ink: Floats, spot: tuple[int, int], label_id: int, random: np.random.Generator
) -> None:
    """Lay a digit's ``ink`` (side, side) in 0..1 over ``scene`` and ``mask``, in place."""
    here = np.s_[spot[0] : spot[0] + len(ink), spot[1] : spot[1] + len(ink)]
    opacity = np.clip((ink - 0.15) / 0.35, 0, 1)[..., None]
    colour = random.uniform(0, 255, size=3)
    brightness = scene[here].mean()
    if abs(colour.mean() - brightness) < 60:  # too near the ground's grey to be seen
        colour = colour * 0.3 if brightness > 110 else 255 - 0.3 * (255 - colour)
    shade = np.linspace(random.uniform(0.75, 1), random.uniform(0.75, 1), len(ink))[:, None, None]
    scene[here] = (1 - opacity) * scene[here] + opacity * colour * shade
    mask[here] = np.where(ink > 0.4, label_id, np.where(ink > 0.25, UNLABELED, mask[here]))
