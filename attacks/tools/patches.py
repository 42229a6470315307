"""Patches: squares of colour that are pasted into images at a place, a size, an angle and a brightness."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.attacks.tools.noise import Generators

Place = tuple[float, float] | None
"""Where a patch lies: shares of the free rows above it and of the free columns left of it; None for a random place."""


@dataclass(frozen=True)
class Motion:
    """How a patch may lie in an image.

    Attributes:
        size: share of the image that the unscaled patch covers, in (0, 1].
        place: shares of the free rows above the patch and of the free columns left of it, (0.5, 0.5) for the centre;
            None for a place that is uniform over the image.
        shift: largest random shift down or up and left or right, as a share of the image's height and width.
        scale: the side is multiplied by a factor that is uniform in [1 - scale, 1 + scale].
        rotation: largest random rotation in degrees, in either direction.
        brightness: colours are multiplied by a factor that is uniform in [1 - brightness, 1 + brightness].
    """

    size: float
    place: Place
    shift: float
    scale: float
    rotation: float
    brightness: float

    def __post_init__(self) -> None:
        for name in ("size", "shift", "scale", "brightness"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "size" and value == 0) or (name != "size" and value == 1):
                raise ValueError(f"a patch's {name} is a share between 0 and 1, got {value:g}")
        if self.place is not None and not all(0 <= share <= 1 for share in self.place):
            raise ValueError(
                f"a patch's place is two shares from 0 to 1, such as [0.5, 0.5] for the centre, got {list(self.place)}"
            )
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"a patch's rotation is 0 to 180 degrees, got {self.rotation:g}")

    @property
    def fixed(self) -> bool:
        """Whether the patch always lies in one place, in one way."""
        return self.place is not None and not any((self.shift, self.scale, self.rotation, self.brightness))


def motion(options: Mapping[str, Any]) -> Motion:
    """Return the motion that an attack's options describe, by the names of `Motion`."""
    return Motion(**{name: options[name] for name in Motion.__dataclass_fields__})


@dataclass(frozen=True)
class Poses:
    """Where the patches of a batch lie; each (N,) float64, on the device of the images.

    Attributes:
        rows: row of the centre, in pixels from the upper edge of the image.
        columns: column of the centre, in pixels from the left edge.
        sides: length of a side in pixels.
        angles: rotation in radians.
        lights: factor of the colours.
    """

    rows: Tensor
    columns: Tensor
    sides: Tensor
    angles: Tensor
    lights: Tensor


def side(size: float, height: int, width: int) -> int:
    """Return the side of the square, in pixels, that covers a share of an image; at most the image's shorter side."""
    return max(1, min(round(math.sqrt(size * height * width)), height, width))


def drawn(motion: Motion, images: Tensor, generators: Generators) -> Poses:
    """Draw how a patch lies in each image, each from its own generator.

    Args:
        motion: what may happen.
        images: (N, 3, H, W).
        generators: one generator per image.
    """
    height, width = images.shape[2:]
    length = side(motion.size, height, width)
    poses = []
    for generator in generators:
        where, moved, others = (torch.rand(n, generator=generator, dtype=torch.float64).tolist() for n in (2, 2, 3))
        shares = where if motion.place is None else motion.place
        corner = [
            min(max(round(share * (extent - length) + (2 * move - 1) * motion.shift * extent), 0), extent - length)
            for share, move, extent in zip(shares, moved, (height, width), strict=True)
        ]
        scale, turn, light = (2 * other - 1 for other in others)
        poses.append(
            [
                corner[0] + length / 2,
                corner[1] + length / 2,
                length * (1 + scale * motion.scale),
                math.radians(turn * motion.rotation),
                1 + light * motion.brightness,
            ]
        )
    return Poses(*torch.tensor(poses, dtype=torch.float64).T.to(images.device, non_blocking=True))


def scored_poses(motion: Motion, images: Tensor, generators: Generators) -> Poses:
    """Return how the patch lies in each image that is scored.

    A generator's seed decides it and not its state, so that the attack and those who check it get the same poses.

    Args:
        motion: what may happen.
        images: (N, 3, H, W).
        generators: one generator per image.
    """
    own = []
    for generator in generators:
        seed = hashlib.sha256(f"patch {generator.initial_seed()}".encode()).digest()[:7]
        own.append(torch.Generator().manual_seed(int.from_bytes(seed, "big")))
    return drawn(motion, images, own)


def footprint(poses: Poses, images: Tensor) -> Tensor:
    """Return the pixels that the patches cover, (N, H, W) bool: those whose centre lies in the square.

    Args:
        poses: where the patches lie.
        images: (N, 3, H, W).
    """
    return (_inside(poses, images).abs() <= 1).all(-1)


def paste(images: Tensor, colours: Tensor, poses: Poses) -> Tensor:
    """Return images with patches in them; pixels outside of the footprint stay as they are.

    Args:
        images: (N, 3, H, W) in [0, 1].
        colours: of each patch, (N, 3, h, w) in [0, 1]; of any resolution, they are sampled bilinearly.
        poses: where the patches lie.
    """
    places = _inside(poses, images)
    covered = (places.abs() <= 1).all(-1)
    shown = F.grid_sample(colours, places.to(colours), mode="bilinear", padding_mode="border", align_corners=False)
    lit = (shown * poses.lights.to(shown).view(-1, 1, 1, 1)).clamp(0, 1)
    return torch.where(covered[:, None], lit, images)


def _inside(poses: Poses, images: Tensor) -> Tensor:
    """Return each pixel's place in the patch, (N, H, W, 2) across and down: from -1 to 1 where the patch covers it."""
    height, width = images.shape[2:]
    rows, columns, sides, angles = (
        value.view(-1, 1, 1) for value in (poses.rows, poses.columns, poses.sides, poses.angles)
    )
    down = torch.arange(height, device=images.device, dtype=torch.float64).view(1, -1, 1) + 0.5 - rows
    across = torch.arange(width, device=images.device, dtype=torch.float64).view(1, 1, -1) + 0.5 - columns
    cosine, sine = angles.cos(), angles.sin()
    turned = torch.stack([cosine * across + sine * down, cosine * down - sine * across], -1)
    return turned * (2 / sides[..., None])
