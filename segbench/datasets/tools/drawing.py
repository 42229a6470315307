"""What scenes of digits are drawn with: glyphs, where they lie, colours and textures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution

import numpy as np
import scipy
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHARES = (0.7, 0.15, 0.15)
"""Share of the glyphs that each split has."""
INK = 0.35
"""Intensity of a glyph above which a pixel belongs to the digit."""
TRIES = 20
"""How often a layout is redrawn until its digits find room side by side."""


@dataclass(frozen=True)
class SceneRecipe:
    """What a scene depends on, besides its split and its number.

    Attributes:
        digits: the digits that occur; label k + 1 is digits[k].
        size: height and width of a scene.
        seed: seed of all scenes.
    """

    digits: tuple[int, ...]
    size: int
    seed: int


@cache
def uci_digits() -> tuple[Array, NDArray[np.int64]]:
    """Return the glyphs (1797, 8, 8) in 0..1 and their digits."""
    # The file itself, because scikit-learn takes two seconds to import.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8) / 16, rows[:, -1].astype(np.int64)


@cache
def glyphs_of(digit: int, split: int) -> Array:
    """Return the glyphs of a digit that belong to a split, (n, 8, 8)."""
    images, labels = uci_digits()
    glyphs = images[labels == digit]
    order = np.random.default_rng(digit).permutation(len(glyphs))
    ends = (np.cumsum((0.0, *SHARES)) * len(glyphs)).round().astype(int)
    chosen: Array = glyphs[np.sort(order[ends[split] : ends[split + 1]])]
    return chosen


def draw_layout(rng: Generator, recipe: SceneRecipe, split: int, count: int) -> list[tuple[int, Array]]:
    """Draw digits that do not overlap: labels and full-size glyphs; fewer than asked for if there is no room."""
    size = recipe.size
    smallest, largest = round(28 / 48 * size), round(38 / 48 * size)
    labels = rng.integers(1, len(recipe.digits) + 1, count).tolist()
    layout: list[tuple[int, Array]] = []
    for _ in range(TRIES):
        layout = []
        taken = np.zeros((size, size))
        for label in labels:
            glyphs = glyphs_of(recipe.digits[label - 1], split)
            side = int(rng.integers(smallest, largest + 1))
            glyph = _trim(scipy.ndimage.zoom(glyphs[rng.integers(len(glyphs))], side / 8, order=1))
            ink = (glyph > INK).astype(float)
            room = np.argwhere(_overlaps(taken, ink) < 0.5)
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


def _overlaps(taken: Array, ink: Array) -> Array:
    """Return how many taken pixels the ink would cover at each place where it lies inside, up to rounding."""
    spectrum = np.fft.rfft2(taken) * np.fft.rfft2(ink, taken.shape).conj()
    rows, columns = (whole - part + 1 for whole, part in zip(taken.shape, ink.shape, strict=True))
    overlaps: Array = np.fft.irfft2(spectrum, taken.shape)[:rows, :columns]
    return overlaps


def _trim(glyph: Array) -> Array:
    """Cut off the empty margins of a glyph."""
    rows, columns = np.nonzero(glyph.any(1))[0], np.nonzero(glyph.any(0))[0]
    return glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def draw_colour(rng: Generator, background: Array) -> Array:
    """Draw a colour that can be told from the background."""
    while True:
        colour = rng.uniform(0.1, 0.9, 3)
        if np.abs(colour - background).mean() >= 0.35:
            return colour


def draw_texture(rng: Generator, size: int) -> Array:
    """Draw a weak grey texture, (size, size): blurred noise, waves or checks."""
    amplitude = rng.uniform(0.02, 0.06)
    kind = rng.integers(3)
    if kind == 0:
        noise = scipy.ndimage.uniform_filter(rng.uniform(-1, 1, (size, size)), 3)
        return np.asarray(amplitude * noise / np.abs(noise).max())
    rows, columns = np.mgrid[:size, :size]
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(4, 16), rng.uniform(0, 2 * np.pi)
    if kind == 1:
        along = rows * np.sin(angle) + columns * np.cos(angle)
        return np.asarray(amplitude * np.sin(2 * np.pi * along / period + phase))
    side = int(period / 2)
    return np.asarray(amplitude * ((rows // side + columns // side) % 2 * 2 - 1))
