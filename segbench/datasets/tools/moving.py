"""Moving scenes of digits: clips of a camera that drives over a floor, its motion and all depths known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from segbench.datasets.base import Clip
from segbench.datasets.tools.drawing import INK, Array, SceneRecipe, draw_colour, draw_layout

FLOOR = (6.0, 2.2)
"""Distance of the floor at the frame's upper and lower edge. All digits are 1 tall, so that the taller is the nearer,
from 1.3 to 2."""
STEP = (0.2, 0.35)
"""How far the camera moves from one frame to the next, at least and at most."""
HEADING = ((0.3, 0, 1), (0.2, 0.1, 0.2))
"""Mean and spread of its direction, right, down and forward: moves to the side alone would look like turns."""
CONTRAST = 0.08
"""Standard deviation of the textures: stronger than in still scenes, because motion shows in textures alone."""
BLUR = 1.5
"""Size of their spots, in pixels: finer ones tell nothing of a motion by several pixels."""
STREAM = 1
"""Tells the random numbers of a moving scene from those of the still one with the same number."""
CACHED_SCENES = 2048


class MovingScene(NamedTuple):
    """A clip and how it came about.

    Attributes:
        frames: (3, 3, H, W) uint8: before, the frame itself, after.
        depth: distance from the camera's plane of what each pixel of the frame itself shows, (H, W).
        motion: place of the next camera as the camera itself sees it, (3,): right, down, forward. The camera before
            it was at the opposite place; the camera does not turn.
        intrinsics: (3, 3), in pixels.
    """

    frames: Tensor
    depth: Tensor
    motion: Tensor
    intrinsics: Tensor


class Plane(NamedTuple):
    """A flat thing, as the camera itself sees it.

    Attributes:
        normal: (3,): its points have `normal @ point == 1`.
        cover: where it is, (H, W) in 0..1.
        paint: its colours, (3, H, W); mirrored beyond the frame.
        endless: there is more of it beyond the frame.
    """

    normal: Array
    cover: Array
    paint: Array
    endless: bool


@dataclass(frozen=True)
class MovingScenes:
    """The clips of a split; see `segbench.datasets.base.Clips`.

    Attributes:
        recipe: what the scenes depend on.
        number: number of the split.
        length: number of clips.
    """

    recipe: SceneRecipe
    number: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Clip:
        scene = self.scene(index)
        return Clip(scene.frames.float() / 255, scene.intrinsics)

    def scene(self, index: int) -> MovingScene:
        """Return a clip with its depth and the motion of its camera."""
        if not 0 <= index < self.length:
            raise IndexError(f"clip {index} of {self.length}")
        return _scene(self.recipe, self.number, index)


@lru_cache(CACHED_SCENES)
def _scene(recipe: SceneRecipe, split: int, index: int) -> MovingScene:
    rng = np.random.default_rng([recipe.seed, split, index, STREAM])
    size = recipe.size
    planes = _planes(rng, recipe, split)
    direction = rng.normal(*HEADING)
    motion = rng.uniform(*STEP) * direction / np.linalg.norm(direction)
    frames = np.stack([_view(planes, place) for place in (-motion, 0 * motion, motion)])
    depth = np.zeros((size, size))
    for plane in planes:
        depth = np.where(plane.cover > 0.5, 1 / np.tensordot(plane.normal, _rays(size), 1), depth)
    centre = (size - 1) / 2
    intrinsics = torch.tensor([[size, 0, centre], [0, size, centre], [0, 0, 1]], dtype=torch.float32)
    pixels = (np.clip(frames, 0, 1) * 255).round().astype(np.uint8)
    return MovingScene(
        torch.from_numpy(pixels),
        torch.from_numpy(depth.astype(np.float32)),
        torch.from_numpy(motion.astype(np.float32)),
        intrinsics,
    )


def _planes(rng: np.random.Generator, recipe: SceneRecipe, split: int) -> list[Plane]:
    """Draw a floor and one or two digits above it, the farthest first."""
    size = recipe.size
    colour = rng.uniform(0.15, 0.85, 3)
    top, bottom = (1 / distance for distance in FLOOR)
    slope = np.array([0, bottom - top, (bottom + top) / 2])
    floor = Plane(slope, np.ones((size, size)), _painted(rng, colour, size), endless=True)
    digits = []
    for _, glyph in draw_layout(rng, recipe, split, int(rng.integers(1, 3))):
        ink = glyph > INK
        rows = np.flatnonzero(ink.any(1))
        upright = np.array([0, 0, (rows[-1] - rows[0] + 1) / size])
        digits.append(Plane(upright, ink.astype(float), _painted(rng, draw_colour(rng, colour), size), endless=False))
    return [floor, *sorted(digits, key=lambda plane: float(plane.normal[2]))]


def _painted(rng: np.random.Generator, colour: Array, size: int) -> Array:
    """Return a colour with spots, (3, H, W)."""
    spots = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), BLUR)
    return np.asarray(colour[:, None, None] + CONTRAST * spots / spots.std())


def _rays(size: int) -> Array:
    """Return the points at distance 1 that pixels show, (3, H, W); the focal length is the frame's side in pixels."""
    rows, columns = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    return np.stack([columns, rows, np.ones((size, size))])


def _view(planes: list[Plane], place: Array) -> Array:
    """Return what a camera sees that stands at a place, (3, H, W)."""
    size = len(planes[0].cover)
    rays = _rays(size)
    picture = np.zeros((3, size, size))
    for plane in planes:
        distance = (1 - plane.normal @ place) / np.tensordot(plane.normal, rays, 1)
        right, down, forward = place[:, None, None] + distance * rays
        at = np.stack([down, right]) / forward * size + (size - 1) / 2
        cover = scipy.ndimage.map_coordinates(plane.cover, at, order=1, cval=float(plane.endless))
        colours = [scipy.ndimage.map_coordinates(channel, at, order=1, mode="mirror") for channel in plane.paint]
        picture = cover * np.stack(colours) + (1 - cover) * picture
    return picture
