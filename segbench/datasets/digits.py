"""Scenes of real handwritten digits, made in memory: the data set that needs no download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage, signal

from segbench.datasets.base import Sample, dataset
from segbench.errors import DataError

Array = NDArray[np.float64]

VERSION = 1
SPLITS = ("train", "val", "dev")
SHARES = (0.7, 0.15, 0.15)
INK = 0.35
"""Intensity of a glyph above which a pixel belongs to the digit."""
CACHED_SCENES = 8192
TRIES = 20
"""How often a layout is redrawn until its digits find room side by side."""

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


@dataclass(frozen=True)
class Recipe:
    """What a scene depends on, besides its split and its number.

    Attributes:
        digits: the digits that occur; label k + 1 is digits[k].
        size: height and width of a scene.
        seed: seed of all scenes.
    """

    digits: tuple[int, ...]
    size: int
    seed: int


@dataset("digits", version=VERSION)
class Digits:
    """Handwritten digits on textured backgrounds; embedded, deterministic, made in seconds.

    A scene has one or two real digits of a random colour, with void (255) where two of them meet. No glyph
    is in two splits. Choose settings on "dev", report on "val".

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
        self.recipe = Recipe(tuple(digits), size, seed)
        self.lengths = dict(zip(SPLITS, (train, val, dev), strict=True))
        self.classes = ("background", *(str(digit) for digit in digits))
        self.palette = PALETTE[: len(self.classes)]

    def split(self, name: str) -> Scenes:
        """Return a split; scenes are made when they are first read."""
        if name not in SPLITS:
            raise DataError(f"digits has no split {name!r}; it has {', '.join(SPLITS)}")
        return Scenes(self.recipe, SPLITS.index(name), self.lengths[name])

    def fingerprint(self) -> str:
        """Hash the recipe and the glyphs; nothing is rendered."""
        recipe = self.recipe
        parts = [VERSION, recipe.digits, recipe.size, recipe.seed, self.lengths]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for array in _uci():
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

    recipe: Recipe
    number: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        return _scene(self.recipe, self.number, index)


@cache
def _uci() -> tuple[Array, NDArray[np.int64]]:
    """Return the glyphs (1797, 8, 8) in 0..1 and their digits."""
    # Not at the top: it takes a second, and naming a data set must not cost one.
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images / 16, data.target.astype(np.int64)


@cache
def _glyphs(digit: int, split: int) -> Array:
    """Return the glyphs of a digit that belong to a split, (n, 8, 8)."""
    images, labels = _uci()
    glyphs = images[labels == digit]
    order = np.random.default_rng(digit).permutation(len(glyphs))
    ends = (np.cumsum((0.0, *SHARES)) * len(glyphs)).round().astype(int)
    chosen: Array = glyphs[np.sort(order[ends[split] : ends[split + 1]])]
    return chosen


@lru_cache(CACHED_SCENES)
def _scene(recipe: Recipe, split: int, index: int) -> Sample:
    rng = np.random.default_rng([recipe.seed, split, index])
    size = recipe.size
    background = rng.uniform(0.15, 0.85, 3)
    image = background[:, None, None] + _texture(rng, size)
    mask = np.zeros((size, size), np.uint8)
    for label, glyph in _layout(rng, recipe, split, int(rng.integers(1, 3))):
        ink = glyph > INK
        image = np.where(ink, _colour(rng, background)[:, None, None] + _texture(rng, size), image)
        meeting = ndimage.binary_dilation(ink) & ndimage.binary_dilation(mask > 0)
        mask[ink] = label
        mask[meeting] = 255
    image += rng.normal(0, 0.02, image.shape)
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return Sample(f"{SPLITS[split]}-{index:05d}", torch.from_numpy(pixels), torch.from_numpy(mask))


def _layout(rng: Generator, recipe: Recipe, split: int, count: int) -> list[tuple[int, Array]]:
    """Draw digits that do not overlap: labels and full-size glyphs; fewer than asked for if there is no room."""
    size = recipe.size
    smallest, largest = round(28 / 48 * size), round(38 / 48 * size)
    labels = rng.integers(1, len(recipe.digits) + 1, count).tolist()
    layout: list[tuple[int, Array]] = []
    for _ in range(TRIES):
        layout = []
        taken = np.zeros((size, size))
        for label in labels:
            glyphs = _glyphs(recipe.digits[label - 1], split)
            side = int(rng.integers(smallest, largest + 1))
            glyph = _trim(ndimage.zoom(glyphs[rng.integers(len(glyphs))], side / 8, order=1))
            ink = (glyph > INK).astype(float)
            room = np.argwhere(signal.fftconvolve(taken, ink[::-1, ::-1], mode="valid") < 0.5)
            if not len(room):
                break
            top, left = room[rng.integers(len(room))]
            canvas = np.zeros((size, size))
            canvas[top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
            taken += canvas > INK
            layout.append((label, canvas))
        if len(layout) == count:
            break
    return layout


def _trim(glyph: Array) -> Array:
    """Cut off the empty margins of a glyph."""
    rows, columns = np.nonzero(glyph.any(1))[0], np.nonzero(glyph.any(0))[0]
    return glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _colour(rng: Generator, background: Array) -> Array:
    """Draw a colour that can be told from the background."""
    while True:
        colour = rng.uniform(0.1, 0.9, 3)
        if np.abs(colour - background).mean() >= 0.35:
            return colour


def _texture(rng: Generator, size: int) -> Array:
    """Draw a weak grey texture, (size, size): blurred noise, waves or checks."""
    amplitude = rng.uniform(0.02, 0.06)
    kind = rng.integers(3)
    if kind == 0:
        noise = ndimage.uniform_filter(rng.uniform(-1, 1, (size, size)), 3)
        return np.asarray(amplitude * noise / np.abs(noise).max())
    rows, columns = np.mgrid[:size, :size]
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(4, 16), rng.uniform(0, 2 * np.pi)
    if kind == 1:
        along = rows * np.sin(angle) + columns * np.cos(angle)
        return np.asarray(amplitude * np.sin(2 * np.pi * along / period + phase))
    side = int(period / 2)
    return np.asarray(amplitude * ((rows // side + columns // side) % 2 * 2 - 1))
