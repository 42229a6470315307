"""Small networks and images that the tests of attacks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

VOID = 255
NUM_CLASSES = 4


class Task(NamedTuple):
    model: nn.Module
    images: Tensor
    masks: Tensor


def small_network(num_classes: int = NUM_CLASSES, seed: int = 0) -> nn.Module:
    """Convolutions, batch norm and dropout, so that a wrong mode or moved statistics show."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Dropout2d(0.3),
            nn.Conv2d(12, num_classes, 3, padding=1),
        )
        model(torch.rand(8, 3, 16, 16))
        model[4].weight.data.mul_(4)
    return model


@pytest.fixture
def task() -> Task:
    """A random network in train mode, three images, and masks that are its own predictions with noise and void."""
    generator = torch.Generator().manual_seed(1)
    model = small_network()
    images = torch.rand(3, 3, 32, 32, generator=generator)
    model.eval()
    with torch.no_grad():
        masks = model(images).argmax(1)
    model.train()
    noise = torch.randint(NUM_CLASSES, masks.shape, generator=generator)
    masks = torch.where(torch.rand(masks.shape, generator=generator) < 0.1, noise, masks)
    masks[:, :4] = VOID
    return Task(model, images, masks)


class PixelLinear(nn.Module):
    """Logits of a pixel are a linear function of that pixel's own values: best perturbations are known."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("kchw,nchw->nkhw", self.weight, images) + self.bias


@pytest.fixture
def pixel_linear() -> Callable[..., PixelLinear]:
    """Make a per-pixel linear network: (classes, height, width, seed) -> network."""

    def make(num_classes: int = 2, height: int = 6, width: int = 5, seed: int = 0) -> PixelLinear:
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(num_classes, 3, height, width, generator=generator)
        # Logits are near zero at half grey, so that small changes suffice and the box of [0, 1] does not bind.
        noise = 0.1 * torch.randn(num_classes, height, width, generator=generator)
        return PixelLinear(weight, noise - 0.5 * weight.sum(1))

    return make
