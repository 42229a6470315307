"""Small data sets in the layouts of ACDC and ADE20K, with drawn scenes in place of photographs.

`python tiny_datasets.py` writes `acdc` and `ADEChallengeData2016` into the current folder. They stand for the data sets
themselves, which have the same folders, names and labels: `segbench data check acdc --data acdc=acdc`.
"""

from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

SIZE = (64, 96)
LOOK = {"fog": (0.3, 150), "night": (0.3, 5), "rain": (0.6, 50), "snow": (0.6, 90)}
"""What each condition multiplies pixels by, and what it adds to them."""

STREETS = (23, 11, 21, 7)
"""The ids of sky, buildings, vegetation and road in Cityscapes, from top to bottom of a scene."""
CAR, EGO_VEHICLE = 26, 1
ROOMS = (6, 1, 9, 4)
"""The labels of ceiling, wall, windowpane and floor in ADE20K, where 0 is unlabelled."""
CHAIR, UNLABELLED = 20, 0
COLOURS = np.random.default_rng(0).integers(0, 256, (256, 3))


def scene(generator: Generator, bands: tuple[int, ...], thing: int, void: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene of bands, a thing before them and void at the bottom: its image and its labels."""
    height, width = SIZE
    labels = np.repeat(np.array(bands, np.uint8), height // len(bands))[:, None].repeat(width, 1)
    top, left = generator.integers(height // 2, height - 20), generator.integers(0, width - 24)
    labels[top : top + 14, left : left + 24] = thing
    labels[-4:] = void
    image = COLOURS[labels] + generator.normal(0, 12, (*SIZE, 3))
    return image, labels


def save(pixels: np.ndarray, path: Path) -> None:
    """Write pixels as an image file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def write_acdc(root: Path, per_split: int = 6) -> None:
    """Write `rgb_anon` and `gt` with so many images for each condition and split."""
    generator = np.random.default_rng(1)
    for condition, (factor, shift) in LOOK.items():
        for split in ("train", "val"):
            for frame in range(per_split):
                image, labels = scene(generator, STREETS, CAR, EGO_VEHICLE)
                stem = f"{condition}/{split}/GOPR0001/GOPR0001_frame_{frame:06d}"
                save(image * factor + shift, root / f"rgb_anon/{stem}_rgb_anon.png")
                save(labels, root / f"gt/{stem}_gt_labelIds.png")


def write_ade20k(root: Path, per_split: int = 6) -> None:
    """Write `images` and `annotations` with so many images for each split."""
    generator = np.random.default_rng(2)
    for split, word in (("training", "train"), ("validation", "val")):
        for number in range(1, per_split + 1):
            image, labels = scene(generator, ROOMS, CHAIR, UNLABELLED)
            save(image, root / f"images/{split}/ADE_{word}_{number:08d}.jpg")
            save(labels, root / f"annotations/{split}/ADE_{word}_{number:08d}.png")


if __name__ == "__main__":
    write_acdc(Path("acdc"))
    write_ade20k(Path("ADEChallengeData2016"))
