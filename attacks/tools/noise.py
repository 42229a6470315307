"""Randomness of attacks: a generator for every image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = Sequence[torch.Generator]


def per_image(generator: torch.Generator | Generators | None, count: int) -> Generators:
    """Give every image of a batch its own generator, so that the rest of the batch has no say in its noise.

    Args:
        generator: one generator, from which a seed per image is drawn; or one per image; or none for seed 0.
        count: number of images.
    """
    if generator is None or (isinstance(generator, Sequence) and not generator):
        generator = torch.Generator().manual_seed(0)
    if isinstance(generator, torch.Generator):
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]
    if len(generator) != count:
        raise ValueError(f"{count} images need {count} generators, got {len(generator)}")
    return generator


def uniform_like(images: Tensor, generators: Generators, low: float, high: float) -> Tensor:
    """Draw uniform noise of the shape of `images`, each image from its own generator (on the CPU)."""
    noise = [torch.rand(images.shape[1:], generator=g) for g in generators]
    return torch.stack(noise).to(images).mul_(high - low).add_(low)
