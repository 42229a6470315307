"""Scenes of real handwritten digits, made in memory: the data set that needs no download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
import torch

from segbench.datasets.base import Sample, dataset
from segbench.datasets.tools.drawing import INK, SceneRecipe, draw_colour, draw_layout, draw_texture, uci_digits
from segbench.datasets.tools.moving import MovingScenes
from segbench.errors import DataError

VERSION = 1
SPLITS = ("train", "val", "dev")
CACHED_SCENES = 8192

PALETTE = (
    (60, 60, 60),
    (230, 75, 60),
    (60, 150, 230),
    (90, 190, 90),
    (240, 190, 60),
    (160, 100, 210),
    (240, 130, 50),
    (60, 200, 200),
    (230, 110, 180),
    (150, 150, 60),
    (170, 120, 90),
)


@dataset("digits", version=VERSION)
class Digits:
    """Handwritten digits on textured backgrounds; embedded, deterministic, made in seconds.

    A scene has one or two real digits of a random colour, with void (255) where two of them meet. No glyph
    is in two splits. Choose settings on "dev", report on "val". Moving scenes come beside them as clips.

    Args:
        digits: digits that occur, one class each after the background.
        size: height and width of a scene, in pixels; a digit's box is 28/48 to 38/48 of it.
        train: number of scenes to train on.
        val: number of scenes to report on.
        dev: number of scenes to choose settings on.
        seed: seed of the scenes; the split of the glyphs does not depend on it.

    Source: UCI optical recognition of handwritten digits, as in scikit-learn,
        https://archive.ics.uci.edu/dataset/80
    """

    ignore_index = 255
    splits = SPLITS

    def __init__(
        self,
        *,
        digits: Sequence[int] = (0, 1, 2, 3, 4),
        size: int = 48,
        train: int = 1500,
        val: int = 150,
        dev: int = 150,
        seed: int = 0,
    ) -> None:
        if not digits or len(set(digits)) < len(digits) or not set(digits) <= set(range(10)):
            raise DataError(f"digits: 'digits' must be different numbers from 0 to 9, got {list(digits)}")
        if size < 16:
            raise DataError(f"digits: 'size' must be at least 16, got {size}")
        if min(train, val, dev) < 1:
            raise DataError(f"digits: every split needs at least one scene, got {train}, {val} and {dev}")
        self.recipe = SceneRecipe(tuple(digits), size, seed)
        self.lengths = dict(zip(SPLITS, (train, val, dev), strict=True))
        self.classes = ("background", *(str(digit) for digit in digits))
        self.palette = PALETTE[: len(self.classes)]

    def split(self, name: str) -> Scenes:
        """Return a split; scenes are made when they are first read."""
        if name not in SPLITS:
            raise DataError(f"digits has no split {name!r}; it has {', '.join(SPLITS)}")
        return Scenes(self.recipe, SPLITS.index(name), self.lengths[name])

    def clips(self, split: str) -> MovingScenes:
        """Return moving scenes, as many as the split has still ones; see `OffersClips`."""
        still = self.split(split)
        return MovingScenes(self.recipe, still.number, len(still))

    def fingerprint(self, *, verify: bool = False) -> str:
        """Hash the recipe and the glyphs; nothing is rendered, and nothing remembered."""
        recipe = self.recipe
        parts = [VERSION, recipe.digits, recipe.size, recipe.seed, self.lengths]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for array in uci_digits():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Scenes:
    """One split: a sequence of scenes.

    Attributes:
        recipe: what the scenes depend on.
        number: number of the split.
        length: number of scenes.
    """

    recipe: SceneRecipe
    number: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        return _scene(self.recipe, self.number, index)


@lru_cache(CACHED_SCENES)
def _scene(recipe: SceneRecipe, split: int, index: int) -> Sample:
    rng = np.random.default_rng([recipe.seed, split, index])
    size = recipe.size
    background = rng.uniform(0.15, 0.85, 3)
    image = background[:, None, None] + draw_texture(rng, size)
    mask = np.zeros((size, size), np.uint8)
    for label, glyph in draw_layout(rng, recipe, split, int(rng.integers(1, 3))):
        ink = glyph > INK
        image = np.where(ink, draw_colour(rng, background)[:, None, None] + draw_texture(rng, size), image)
        meeting = scipy.ndimage.binary_dilation(ink) & scipy.ndimage.binary_dilation(mask > 0)
        mask[ink] = label
        mask[meeting] = 255
    image += rng.normal(0, 0.02, image.shape)
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return Sample(f"{SPLITS[split]}-{index:05d}", torch.from_numpy(pixels), torch.from_numpy(mask))
