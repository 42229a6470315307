"""Random numbers of the attacks: one generator per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = Sequence[torch.Generator]


def per_image(generator: torch.Generator | Generators | None, count: int) -> Generators:
    """Return one generator per image, so that an image's noise does not depend on the rest of the batch.

    Args:
        generator: one generator, which draws a seed for each image; or one generator per image; or None for seed 0.
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
    """Sample uniform noise in [low, high) with the shape of `images`; each image uses its own CPU generator."""
    noise = [torch.rand(images.shape[1:], generator=g) for g in generators]
    return torch.stack(noise).to(images).mul_(high - low).add_(low)
